"""How a network is trained: optimisation, machine, augmentation and learning rate schedule."""

import math
from dataclasses import dataclass, field

import torch
from pydantic import Field

from transfer.core.config import Section
from transfer.modalities.interface import Augmentation, InputSpec
from transfer.modalities.normalisation import Normalisation
from transfer.training.precision import Precision


class TrainingSettings(Section):
    """How a network is optimised with AdamW, and for how many steps; equal for every arm."""

    steps: int = Field(200, ge=1)
    """Optimiser steps (batches); the training budget of a network."""
    batch_size: int = Field(32, ge=2)
    """Items per optimiser step."""
    weight_decay: float = Field(0.05, ge=0)
    """AdamW's decoupled weight decay, per step and unit of learning rate; biases and
    normalisation layers have none."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of each target probability that is spread evenly over all classes."""
    warmup: float = Field(0.25, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly to its peak; afterwards it falls
    to 0 as half a cosine."""
    average: float = Field(0.95, ge=0, lt=1)
    """Decay per step of the exponential moving average (EMA) of the weights, which become the
    weights of the trained network; 0 keeps the weights of the last step."""
    average_from: float = Field(0.7, ge=0, le=1)
    """Share of the steps after which the moving average starts."""


@dataclass(frozen=True)
class Machine:
    """Where and in which precision numbers are computed."""

    device: str = "cpu"
    precision: Precision = "fp32"

    def autocast(self) -> torch.autocast:
        """The context for a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True)
class Recipe:
    """All that the training loop needs to know besides the method and the items."""

    training: TrainingSettings
    policy: Augmentation
    normal: Normalisation
    classes: int
    machine: Machine = Machine()
    source_policy: Augmentation | None = None
    """How items of the source are varied where a method reads them; None uses ``policy``."""
    spec: InputSpec = field(kw_only=True)
    """What the items were converted to; its modality augments and standardises them."""


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1.

    A linear rise over ``warmup``, then half a cosine to zero (after Smith and Topin, 2018;
    Loshchilov and Hutter, ICLR 2017).
    """
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-12)))
