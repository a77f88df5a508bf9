"""How a network's inputs are standardised, channel by channel."""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from transfer.core.config import Section
from transfer.core.errors import DataRefusedError


class Normalisation(Section):
    """Mean and standard deviation of each channel, measured on training data only.

    The statistics of a target are measured on all its labelled items. These include the items that
    a fold holds out, which contribute to two numbers per channel and no label. Without any numbers,
    inputs stay as they are, which is what token ids need.
    """

    mean: tuple[float, ...]
    """C numbers, in the unit of the inputs; empty for inputs that stay as they are."""
    std: tuple[float, ...]
    """C numbers above 0."""
    dims: int = Field(4, ge=2)
    """Dimensions of a batch, of which the first counts items and the second channels: 2 for
    vectors (N, C), 3 for sequences (N, C, T), 4 for grids (N, C, H, W)."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"found {len(self.mean)} means and {len(self.std)} standard deviations; expected "
                "one of each for every channel"
            )
        return self

    @classmethod
    def none(cls) -> "Normalisation":
        """The normalisation that leaves inputs of any type and shape as they are."""
        return cls(mean=(), std=())

    def apply(self, inputs: Tensor) -> Tensor:
        """Standardise a batch (N, C, ...) of floating numbers.

        Raises:
            DataRefusedError: the batch has another number of dimensions or of channels.
        """
        if not self.mean:
            return inputs
        if inputs.dim() != self.dims or inputs.shape[1] != len(self.mean):
            rest = ", ..." if self.dims > 2 else ""
            raise DataRefusedError(
                f"a batch to standardise has the shape {tuple(inputs.shape)}; expected "
                f"{self.dims} dimensions, (N, {len(self.mean)}{rest}): the statistics are of "
                f"{len(self.mean)} channels. Pass inputs of the kind that they were measured on"
            )
        shape = (1, -1, *(1 for _ in inputs.shape[2:]))
        mean = torch.tensor(self.mean, device=inputs.device).view(shape)
        std = torch.tensor(self.std, device=inputs.device).view(shape)
        return (inputs - mean) / std
