"""Candidates of known quality: they have the same items and differ in their predictions."""

import dataclasses

import numpy as np
from scipy.special import softmax

from transfer.selection.validator import CandidateOutputs

CLASSES = 4
GOOD, RANDOM, COLLAPSED = 0, 1, 2


def make_logits(quality, labels, rng, classes=CLASSES):
    """Logits of a model that is good, random or collapsed, for items of these labels."""
    noise = rng.normal(size=(len(labels), classes))
    if quality == "good":
        return noise + 6 * np.eye(classes)[labels]
    if quality == "collapsed":
        return 0.1 * noise + 8 * np.eye(classes)[np.ones_like(labels)]
    return noise


def make_candidates(
    qualities=("good", "random", "collapsed"), items=240, source=200, trained=220, seed=0
):
    """`CandidateOutputs` of each quality; the true labels of the target are not among them."""
    rng = np.random.default_rng(seed)
    labels, source_labels = np.arange(items) % CLASSES, np.arange(source) % CLASSES
    logits_by_quality = [make_logits(quality, labels, rng) for quality in qualities]
    peers = np.array([softmax(logits, 1) for logits in logits_by_quality])
    features = rng.normal(size=(items, 3)) + 0.5
    source_features, train_features = rng.normal(size=(source, 3)), rng.normal(size=(trained, 3))
    return [
        CandidateOutputs(
            logits=logits,
            features=features,
            source_logits=make_logits(quality, source_labels, rng),
            source_labels=source_labels,
            source_features=source_features,
            train_features=train_features,
            peers=peers,
        )
        for quality, logits in zip(qualities, logits_by_quality, strict=True)
    ]


def single_candidate(logits, **changes):
    """A candidate with these logits of the target, whose only peer is itself."""
    logits = np.asarray(logits, float)
    rng = np.random.default_rng(0)
    classes = logits.shape[1]
    source_labels = np.arange(60) % classes
    arrays = {
        "logits": logits,
        "features": rng.normal(size=(len(logits), 3)),
        "source_logits": make_logits("good", source_labels, rng, classes),
        "source_labels": source_labels,
        "source_features": rng.normal(size=(60, 3)),
        "train_features": rng.normal(size=(70, 3)),
        "peers": softmax(logits, 1)[None],
    }
    return CandidateOutputs(**{**arrays, **changes})


def without_source(candidate):
    names = ("source_logits", "source_labels", "source_features", "train_features")
    return dataclasses.replace(candidate, **{name: getattr(candidate, name)[:0] for name in names})
