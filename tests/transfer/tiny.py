"""Pictures, networks and recipes that train in milliseconds."""

import numpy as np
import torch

from transfer.adapt import Target
from transfer.arrays import TrainItems, normalisation
from transfer.checkpoint import Keeper
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.network import BackboneSettings, build
from transfer.recipe import Budget, Recipe
from transfer.weights import Knowledge

SIDE = 12
CLASSES = ("acer", "betula", "corylus")
BODY = BackboneSettings(width=4)
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


def network(classes=3, channels=1, seed=0, body=BODY):
    return build(body, channels=channels, classes=classes, seed=seed)


def knowledge(class_names=("betula", "fagus"), channels=1, seed=100, body=BODY):
    """A source network with weights and statistics unlike those of any fresh network."""
    fresh = network(len(class_names), channels, seed, body)
    noise = torch.Generator().manual_seed(seed)
    state = {
        name: t + 0.1 * torch.rand(t.shape, generator=noise) if t.is_floating_point() else t + 9
        for name, t in fresh.state_dict().items()
    }
    return Knowledge("trees", class_names, state)


def recipe(seen, policy=STILL, classes=3, **budget):
    told = {"steps": 20, "batch_size": 8, **budget}
    return Recipe(Budget(**told), policy, normalisation(seen), classes)


def target(labelled, folds=3, validation=None, body=BODY):
    return Target(
        name="hedge",
        class_names=CLASSES,
        labelled=labelled,
        validation=validation,
        folds=folds,
        spec=ImageSpec(size=SIDE, channels=labelled.images.shape[1]),
        limits=ImageLimits(),
        backbone=body,
    )


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one, other):
    """Whether two dictionaries hold bit-identical tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Died(BaseException):
    """Stands for the end of a process."""


class Mortal(Keeper):
    """Keeps a checkpoint after every step, and dies after one of them."""

    dies_at = -1

    def due(self):
        return True

    def save(self, state):
        super().save(state)
        if state["step"] == self.dies_at:
            raise Died


def mortal(path, dies_at=-1):
    keeper = Mortal(path)
    keeper.dies_at = dies_at
    return keeper
