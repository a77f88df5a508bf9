"""Normalisation layers: batch normalisation, which keeps running statistics, and the others."""

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Layers that standardise by their batch in training mode, and by running statistics in evaluation
mode."""
NORMS = (
    *BATCH_NORMS,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
"""All layers that normalise, with or without running statistics."""

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""The type of one batch normalisation."""


def norm_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Every normalisation layer within a module, by its name there."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, NORMS)}


def batch_norms(module: nn.Module) -> dict[str, BatchNorm]:
    """Every batch normalisation within a module, by its name there."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BATCH_NORMS)}
