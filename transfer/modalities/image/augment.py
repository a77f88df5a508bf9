"""Augmentation of image batches on tensors: one affine resampling, then light, noise and erasing.

All random numbers come from the generator that is passed in, per image, on the CPU, so that a
batch is augmented the same way on every device.

Shapes: N images, C channels, H rows, W columns, K classes.
"""

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from transfer.modalities.interface import Augmentation


class AugmentPolicy(Augmentation):
    """How strongly training images are varied; 0 or false switches a part off."""

    rotate: float = Field(12.0, ge=0, le=180)
    """Largest rotation, degrees, to either side."""
    scale: float = Field(0.12, ge=0, lt=1)
    """Largest change of size, share: 0.1 draws from 1/1.1 to 1.1."""
    stretch: float = Field(0.08, ge=0, lt=1)
    """Largest change of the ratio of width to height, share."""
    translate: float = Field(0.08, ge=0, le=0.5)
    """Largest shift, share of the side, in each direction."""
    shear: float = Field(8.0, ge=0, le=45)
    """Largest horizontal shear, degrees."""
    crop: float = Field(0.0, ge=0, lt=1)
    """Largest share of the side cut off by a random crop, which is enlarged to full size."""
    flip_horizontal: bool = False
    """Mirror half of the images left to right; wrong for characters."""
    flip_vertical: bool = False
    """Mirror half of the images top to bottom."""
    brightness: float = Field(0.1, ge=0, le=1)
    """Largest shift of brightness, share of the full range."""
    contrast: float = Field(0.1, ge=0, lt=1)
    """Largest change of contrast, share."""
    resolution: float = Field(1.0, gt=0.1, le=1)
    """Lowest share of the resolution that is kept: half of the images are shrunk to between this
    and 1, the same for a batch, and enlarged again. For datasets of different resolutions."""
    noise: float = Field(0.0, ge=0, le=1)
    """Standard deviation of Gaussian noise, share of the full range."""
    cutout: float = Field(0.0, ge=0, lt=1)
    """Side of the square erased from each image, share of the image's side."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup's Beta(alpha, alpha)."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix's Beta(alpha, alpha); with mixup as well, each batch draws one of the two."""


def _uniform(n: int, largest: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(n, generator=generator) * 2 - 1) * largest


def _signs(n: int, flip: bool, generator: torch.Generator) -> Tensor:
    if not flip:
        return torch.ones(n)
    return 1.0 - 2.0 * (torch.rand(n, generator=generator) < 0.5)


def affine_matrices(n: int, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    """Draw one output-to-input affine map per image, in `affine_grid`'s coordinates (-1 to 1).

    Returns:
        (N, 2, 3): rotation x shear x scale and flip, then a shift that keeps crops inside.
    """
    angle = _uniform(n, math.radians(policy.rotate), generator)
    shear = torch.tan(_uniform(n, math.radians(policy.shear), generator))
    size = torch.exp(_uniform(n, math.log1p(policy.scale), generator))
    ratio = torch.exp(_uniform(n, math.log1p(policy.stretch) / 2, generator))
    window = 1 - torch.rand(n, generator=generator) * policy.crop
    across = size * ratio * window * _signs(n, policy.flip_horizontal, generator)
    down = size / ratio * window * _signs(n, policy.flip_vertical, generator)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * across, (cos * shear - sin) * down, sin * across, (sin * shear + cos) * down]
    linear = torch.stack(rows, dim=1).view(n, 2, 2)
    offset = (1 - window).unsqueeze(1) * (torch.rand(n, 2, generator=generator) * 2 - 1)
    shift = 2 * policy.translate * (torch.rand(n, 2, generator=generator) * 2 - 1)
    return torch.cat([linear, (offset + shift).unsqueeze(2)], dim=2)


def _geometric(policy: AugmentPolicy) -> bool:
    parts = (policy.rotate, policy.scale, policy.stretch, policy.translate, policy.shear)
    return any(parts) or policy.crop > 0 or policy.flip_horizontal or policy.flip_vertical


def _warp(images: Tensor, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    maps = affine_matrices(len(images), policy, generator).to(images)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _shares(n: int, few: int) -> Tensor:
    """Means of neighbours (few, n): row i averages the cells that the i-th of ``few`` equal parts
    touches, as adaptive pooling does, which not every device has."""
    parts, cells = torch.arange(few).unsqueeze(1), torch.arange(n)
    touched = ((cells + 1) * few > parts * n) & (cells * few < (parts + 1) * n)
    return touched / touched.sum(1, keepdim=True)


def _coarsen(images: Tensor, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    n, _, h, w = images.shape
    share = 1 - float(torch.rand(1, generator=generator)) * (1 - policy.resolution)
    kept = torch.rand(n, generator=generator).to(images.device) < 0.5
    small = (max(1, round(h * share)), max(1, round(w * share)))
    down, across = (_shares(big, few).to(images) for big, few in zip((h, w), small, strict=True))
    shrunk = down @ images @ across.T
    coarse = functional.interpolate(shrunk, (h, w), mode="bicubic", align_corners=False)
    return torch.where(kept.view(n, 1, 1, 1), images, coarse.clamp(0, 1))


def _light(images: Tensor, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    n = len(images)
    gain = 1 + _uniform(n, policy.contrast, generator).to(images).view(n, 1, 1, 1)
    lift = _uniform(n, policy.brightness, generator).to(images).view(n, 1, 1, 1)
    centre = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - centre) * gain + centre + lift).clamp(0, 1)


def _erase(images: Tensor, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    n, _, h, w = images.shape
    row = (torch.rand(n, 1, generator=generator) * h).to(images.device)
    column = (torch.rand(n, 1, generator=generator) * w).to(images.device)
    rows = (torch.arange(h, device=images.device) + 0.5 - row).abs() < policy.cutout * h / 2
    columns = (torch.arange(w, device=images.device) + 0.5 - column).abs() < policy.cutout * w / 2
    hole = rows[:, None, :, None] & columns[:, None, None, :]  # N x 1 x H x W
    return torch.where(hole, images.mean(dim=(2, 3), keepdim=True), images)


def augment(images: Tensor, policy: AugmentPolicy, generator: torch.Generator) -> Tensor:
    """Vary each image of a batch by the policy.

    Args:
        images: (N, C, H, W) float, 0 to 1.
        policy: what to vary, and how strongly.
        generator: a CPU generator; the same state gives the same batch.

    Returns:
        (N, C, H, W) float, 0 to 1. Outside the image the border is repeated.
    """
    if _geometric(policy):
        images = _warp(images, policy, generator)
    if policy.resolution < 1:
        images = _coarsen(images, policy, generator)
    if policy.brightness or policy.contrast:
        images = _light(images, policy, generator)
    if policy.noise:
        noise = torch.randn(images.shape, generator=generator).to(images)
        images = (images + policy.noise * noise).clamp(0, 1)
    if policy.cutout:
        images = _erase(images, policy, generator)
    return images


def _beta(alpha: float, generator: torch.Generator) -> float:
    gammas = torch._standard_gamma(torch.full((2,), alpha), generator=generator)
    return float(gammas[0] / gammas.sum().clamp_min(1e-12))


def mix(
    images: Tensor, targets: Tensor, policy: AugmentPolicy, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with another image of the batch and its target.

    mixup (Zhang et al., ICLR 2018): x' = l x_i + (1 - l) x_j, y' = l y_i + (1 - l) y_j with
    l ~ Beta(alpha, alpha). CutMix (Yun et al., ICCV 2019): a box covering 1 - l of x_i is
    replaced by that of x_j, and l is set to the share of x_i that is left.

    Args:
        images: (N, C, H, W) float.
        targets: (N, K) class probabilities.
        policy: ``mixup`` and ``cutmix``; with both, each is drawn for a batch with probability 1/2.
        generator: a CPU generator.
    """
    if not (policy.mixup or policy.cutmix):
        return images, targets
    other = torch.randperm(len(images), generator=generator).to(images.device)
    draw = float(torch.rand(1, generator=generator))
    if policy.mixup and (not policy.cutmix or draw < 0.5):
        share = _beta(policy.mixup, generator)
        images = share * images + (1 - share) * images[other]
    else:
        images, share = _paste(images, other, _beta(policy.cutmix, generator), generator)
    return images, share * targets + (1 - share) * targets[other]


def _paste(
    images: Tensor, other: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    h, w = images.shape[2:]
    side = math.sqrt(1 - share)
    row, column = (torch.rand(2, generator=generator) * torch.tensor([h, w])).tolist()
    top, bottom = (round(min(max(row + d * side * h / 2, 0), h)) for d in (-1, 1))
    left, right = (round(min(max(column + d * side * w / 2, 0), w)) for d in (-1, 1))
    images = images.clone()
    images[:, :, top:bottom, left:right] = images[other][:, :, top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (h * w)
