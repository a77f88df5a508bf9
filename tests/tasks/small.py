"""Small datasets taken through the real first steps of a run: scanned, split, pretrained on."""

import time
from pathlib import Path

import numpy as np

from tasks.data.scan import scan
from tasks.data.split import folds_for, split_source, split_target
from tasks.runtime.artifacts import Dataset, Divided
from tasks.runtime.run_context import RunContext, TimeLimit
from tasks.training.adapt import ArmJob, adapt
from tasks.training.cancellation import Stop
from tasks.training.pretrain import pretrain
from tasks.versioning import dataset_versions
from tests.transfer import tiny
from transfer.modalities.image.spec import ImageSpec
from transfer.settings.project import Settings
from transfer.training.feature_cache import Features
from transfer.training.recipe import Machine

SPEC = ImageSpec(size=tiny.SIDE, channels=1)
MACHINE = Machine()
MANY = 64  # arms at once, which leaves each of them one numeric thread


def settings(**changes):
    """Settings of a run that takes a second; ``changes`` by section, such as ``adapt``."""
    training = {"steps": 8, "batch_size": 8}
    told = {
        "source": {"path": "data/mnist"},
        "target": {"path": "data/digits"},
        "input": {"size": tiny.SIDE},
        "backbone": {"width": 4},
        "split": {"test": 0.3},
        "pretrain": {"training": {"steps": 60, "batch_size": 16}, "look_every": 30},
        "adapt": {"methods": ["fine_tune"], "seeds": [0], "folds": 2, "training": training},
    }
    for section, fields in changes.items():
        told[section] = {**told.get(section, {}), **fields}
    return Settings.model_validate(told)


def scanned(name, n, seed, *, noise=False):
    """The bands of `tiny` as an .npz file, scanned; with ``noise`` its labels say nothing."""
    images, labels = tiny.pictures(n, seed=seed)
    if noise:
        images = np.random.default_rng(seed).integers(0, 256, images.shape, np.uint8)
    path = Path(f"{name}.npz").absolute()
    np.savez(path, images=images[:, 0], labels=labels, class_names=np.array(tiny.CLASSES))
    return scan.fn(Dataset(name, path, dataset_versions.fingerprint(path)), SPEC, settings().input)


def target(told, n=60):
    """The target, divided as these settings say."""
    found = scanned("small", n, seed=1)
    return Divided(found, split_target.fn(found, told, folds_for(found, told)))


def context(into, told, sources=None, *, at_once=MANY, limit=None):
    """What a run works with; ``sources`` by name, ``limit`` of its time."""
    return RunContext(
        sources or {},
        into,
        SPEC,
        folds_for(into.scan, told),
        told,
        MACHINE,
        at_once,
        limit or TimeLimit(time.time()),
    )


def source(name, into, told, *, n=90, seed=2, noise=False):
    """A source that was pretrained on."""
    found = scanned(name, n, seed, noise=noise)
    divided = Divided(found, split_source.fn(found, into, told.source, 2))
    return pretrain.fn(name, context(into, told, {name: divided}), MANY, Stop.of_run())


def arm(plan, into, told, sources, seed=0, until=None):
    """Train an arm, or take the one that is stored."""
    job = ArmJob.of(plan, seed, sources)
    return adapt.fn(job, context(into, told), Stop.of_run(), Features(), until)
