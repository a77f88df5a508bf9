"""Candidates whose worth is known: they see the same items and differ in what they say of them."""

import dataclasses

import numpy as np
from scipy.special import softmax

from transfer.selection.validator import Seen

CLASSES = 4
GOOD, RANDOM, COLLAPSED = 0, 1, 2


def say(kind, labels, rng, classes=CLASSES):
    """Logits of a model that is good, random or collapsed, for items of these labels."""
    noise = rng.normal(size=(len(labels), classes))
    if kind == "good":
        return noise + 6 * np.eye(classes)[labels]
    if kind == "collapsed":
        return 0.1 * noise + 8 * np.eye(classes)[np.ones_like(labels)]
    return noise


def pool(kinds=("good", "random", "collapsed"), items=240, source=200, trained=220, seed=0):
    """One `Seen` for each kind, with the true labels of the target known to nobody."""
    rng = np.random.default_rng(seed)
    labels, known = np.arange(items) % CLASSES, np.arange(source) % CLASSES
    told = [say(kind, labels, rng) for kind in kinds]
    peers = np.array([softmax(logits, 1) for logits in told])
    features = rng.normal(size=(items, 3)) + 0.5
    source_features, train_features = rng.normal(size=(source, 3)), rng.normal(size=(trained, 3))
    return [
        Seen(
            logits=logits,
            features=features,
            source_logits=say(kind, known, rng),
            source_labels=known,
            source_features=source_features,
            train_features=train_features,
            peers=peers,
        )
        for kind, logits in zip(kinds, told, strict=True)
    ]


def alone(logits, **changes):
    """One candidate with these logits of the target, and no peers but itself."""
    logits = np.asarray(logits, float)
    rng = np.random.default_rng(0)
    classes = logits.shape[1]
    known = np.arange(60) % classes
    given = {
        "logits": logits,
        "features": rng.normal(size=(len(logits), 3)),
        "source_logits": say("good", known, rng, classes),
        "source_labels": known,
        "source_features": rng.normal(size=(60, 3)),
        "train_features": rng.normal(size=(70, 3)),
        "peers": softmax(logits, 1)[None],
    }
    return Seen(**{**given, **changes})


def without_source(seen):
    names = ("source_logits", "source_labels", "source_features", "train_features")
    return dataclasses.replace(seen, **{name: getattr(seen, name)[:0] for name in names})
