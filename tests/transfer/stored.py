"""Arms in folders that say of validation items what a test wants them to say."""

import numpy as np
from scipy.special import softmax

from tests.transfer import tiny
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.models import checkpoint
from transfer.models.predictor import Card, Member
from transfer.selection.model_selection import ArmFiles

LABELS = np.arange(60) % 3


def logits(right, labels=LABELS, seed=0, classes=3):
    """Class scores (N, K) of which about a share ``right`` is highest for the true class."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(labels)) < right, labels, rng.integers(0, classes, len(labels)))
    return (2 * np.eye(classes)[said] + 0.3 * rng.normal(size=(len(labels), classes))).astype("f4")


def probabilities(right, labels=LABELS, seed=0):
    return softmax(logits(right, labels, seed).astype(float), axis=1)


def arm(root, method, scores, *, labels=LABELS, ids=None, temperature=1.0, **told):
    """Write an arm with these scores (N, K) of validation items; ``told`` is that of ArmFiles."""
    seed = told.pop("seed", 0)
    folder = root / f"{told.get('label') or method}-{seed}".replace("/", "-")
    folder.mkdir()
    member = Member(
        arm=f"{method}/{seed}",
        weight=1.0,
        temperature=temperature,
        networks=1,
        backbone_spec=tiny.BODY,
        normal=tiny.NORMAL,
    )
    card = Card(
        target="hedge",
        class_names=tiny.CLASSES,
        spec=ImageSpec(size=tiny.SIDE, channels=1),
        limits=ImageLimits(),
        members=(member,),
    )
    checkpoint.save_model(folder, card, {})
    (folder / "notes.json").write_text("[]")
    ids = np.arange(len(labels)).astype(str) if ids is None else ids
    np.savez(folder / "oof.npz", logits=scores, labels=labels, ids=ids)
    return ArmFiles(method, seed, folder, 5, **told)
