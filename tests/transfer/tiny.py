"""Pictures, networks and recipes that train in milliseconds."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch

from transfer.arms.trainer import Target, Trainer
from transfer.data.items import PoolItems, SourceItems, TrainItems, normalisation
from transfer.methods.baselines.scratch import Scratch
from transfer.modalities import lookup
from transfer.modalities.backbone import BackboneSpec
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.checkpoint import Keeper
from transfer.models.network import build
from transfer.models.parameter_transfer import Knowledge
from transfer.training.loop import fit
from transfer.training.recipe import Recipe, TrainingSettings

SIDE = 12
CLASSES = ("acer", "betula", "corylus")
BODY = BackboneSpec(name="resnet", options={"width": 4, "pool": True})
MODALITY = lookup.get("image")
NORMAL = Normalisation(mean=(0.4,), std=(0.3,))
STILL = AugmentPolicy(rotate=0, scale=0, stretch=0, translate=0, shear=0, brightness=0, contrast=0)


def pictures(n=24, classes=3, channels=1, seed=0):
    """Noise with a bright band, whose height tells the class: (n, channels, 12, 12) and (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = rng.integers(0, 90, (n, channels, SIDE, SIDE))
    high = SIDE // classes
    for image, label in zip(images, labels, strict=True):
        image[:, label * high : (label + 1) * high] += 120
    return images.astype(np.uint8), labels


def items(n=24, classes=3, channels=1, seed=0, groups=None):
    images, labels = pictures(n, classes, channels, seed)
    ids = np.array([f"{seed}/{i:03d}.png" for i in range(n)])
    own = ids if groups is None else np.array(groups)
    return TrainItems(torch.from_numpy(images), torch.from_numpy(labels), ids, own)


def spec(channels=1, size=SIDE):
    return ImageSpec(size=size, channels=channels)


def strong(method, level="strong"):
    """The strong augmentation of unlabelled items by a method."""
    return lookup.of(spec(1)).strong_augmentation(level, method.strong)


def spec_of(seen):
    """The specification of tiny items."""
    return spec(seen.records.shape[1])


def network(classes=3, channels=1, seed=0, backbone_spec=BODY):
    return build(backbone_spec, spec=spec(channels), classes=classes, seed=seed)


def knowledge(class_names=("betula", "fagus"), channels=1, seed=100, backbone_spec=BODY):
    """A source network, trained for some steps, so that its features are worth something."""
    state = _trained(tuple(class_names), channels, seed, backbone_spec.model_dump_json())
    normal = Normalisation(mean=NORMAL.mean * channels, std=NORMAL.std * channels)
    return Knowledge("trees", class_names, state, backbone_spec, normal)


@cache
def _trained(class_names, channels, seed, backbone_spec):
    seen = source(class_names=class_names, channels=channels)
    net = network(len(class_names), channels, seed, BackboneSpec.model_validate_json(backbone_spec))
    how = recipe(seen.items, AugmentPolicy(), len(class_names), steps=30, batch_size=15)
    made, _ = fit(Scratch(), Scratch().prepare(net, None, class_names), seen.items, how, seed=seed)
    return made.state_dict()


def source(n=30, class_names=("betula", "fagus"), channels=1, seed=7):
    """Items of the source of `knowledge`: the same bands, on darker pictures."""
    seen = items(n, len(class_names), channels, seed)
    normal = Normalisation(mean=NORMAL.mean * channels, std=NORMAL.std * channels)
    return SourceItems(seen, tuple(class_names), normal)


def pool_of(seen):
    """The pictures of labelled items, as a pool."""
    return PoolItems(seen.records, seen.ids, seen.groups)


def pool(n=20, channels=1, seed=9):
    """Pictures like `items`, without labels."""
    return pool_of(items(n, 3, channels, seed))


def recipe(seen, policy=STILL, classes=3, **budget):
    told = {"steps": 20, "batch_size": 8, **budget}
    spec, training = spec_of(seen), TrainingSettings(**told)
    return Recipe(training, policy, normalisation(seen, spec), classes, spec=spec)


def target(labelled, folds=3, validation=None, backbone_spec=BODY):
    return Target(
        name="hedge",
        class_names=CLASSES,
        labelled=labelled,
        validation=validation,
        folds=folds,
        spec=spec_of(labelled),
        limits=ImageLimits(),
        backbone_spec=backbone_spec,
        pool=pool(channels=labelled.records.shape[1]),
        source=source(channels=labelled.records.shape[1]),
    )


def trainer(method, seen, recipe, *, sources=None, target=None, seed=0, hidden=0, keeper=None):
    """What trains one network of an arm, with the last ``hidden`` labelled items held out."""
    if sources is None:
        sources = [knowledge(), knowledge(seed=200)] if method.combines else [knowledge()]
    rows = np.arange(len(seen)) < len(seen) - hidden
    given = target or globals()["target"](seen)
    return Trainer(method, sources, given, recipe, seed, rows, keeper, None)


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one, other):
    """Whether two dictionaries hold bit-identical tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Died(BaseException):
    """Stands for the end of a process."""


@dataclass
class Countdown:
    """Counts checkpoints over all phases of an arm, and says at which the process ends."""

    dies_at: int = -1
    saved: int = 0


@dataclass
class Mortal(Keeper):
    """Keeps a checkpoint after every step, and dies after one of them."""

    count: Countdown = field(default_factory=Countdown)

    def due(self):
        return True

    def save(self, state):
        super().save(state)
        self.count.saved += 1
        if self.count.saved == self.count.dies_at:
            raise Died


def mortal(path, dies_at=-1):
    return Mortal(path, count=Countdown(dies_at))
