"""Records of images, (C, S, S) uint8: their statistics, and their conversion to network inputs.

Shapes: N images, C channels, H x W pixels.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.modalities.normalisation import Normalisation

THUMB = 16  # side of a thumbnail, in pixels
SUMMARY = ("brightness", "contrast", "sharpness")


def scale(records: Tensor) -> Tensor:
    """Pixels (N, C, H, W) uint8 as floats in 0..1."""
    return records.float().div(255)


def statistics(parts: Iterable[Tensor], channels: int) -> Normalisation:
    """Measure pixels (N, C, H, W) uint8; a constant channel gets a standard deviation of 1/255."""
    counts = torch.zeros(channels, 256, dtype=torch.double)
    for part in parts:
        for channel, pixels in enumerate(part.transpose(0, 1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    shares, levels = counts / counts.sum(dim=1, keepdim=True), torch.arange(256).double() / 255
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    std = variance.sqrt().clamp_min(1 / 255)
    return Normalisation(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def light(images: Tensor) -> NDArray[np.float32]:
    """Brightness, contrast and sharpness (N, 3) of images (N, C, H, W) uint8, all in 0..1.

    Mean and standard deviation of the pixels, and the mean absolute step from a pixel to its right
    and its lower neighbour.
    """
    pixels = images.float().div(255)
    mean, std = pixels.mean((1, 2, 3)), pixels.std((1, 2, 3), correction=0)
    down, right = (pixels.diff(dim=side).abs().mean((1, 2, 3)) for side in (2, 3))
    summary: NDArray[np.float32] = torch.stack([mean, std, (down + right) / 2], 1).numpy()
    return summary


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Reduce images to 16 x 16 grey area means.

    Grey is the mean over channels. A cell covers H/16 x W/16 pixels, and a pixel that two cells
    share counts in each by its share of the area, so any size works, below 16 as well.

    Args:
        images: N x C x H x W, uint8.

    Returns:
        N x 256, float32, 0..1.
    """
    n, _, height, width = images.shape
    down, across = _area_weights(height), _area_weights(width).T
    thumbs = np.empty((n, THUMB * THUMB), np.float32)
    step = max(1, 2**22 // (height * width))
    for start in range(0, n, step):
        grey = images[start : start + step].mean(axis=1, dtype=np.float32)  # n x H x W
        thumbs[start : start + step] = (down @ grey @ across).reshape(len(grey), -1) / 255
    return thumbs


def _area_weights(size: int) -> np.ndarray:
    """Share of each of ``size`` pixels in each of the 16 cells, 16 x size; rows sum to 1."""
    edges = np.arange(THUMB + 1) * (size / THUMB)
    pixel = np.arange(size)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    return (np.clip(high - low, 0, None) * (THUMB / size)).astype(np.float32)
