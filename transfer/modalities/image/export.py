"""Backbones of images without operations that other formats do not have.

Shapes: N images, C channels, S x S pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from transfer.modalities.backbone import Backbone
from transfer.modalities.image.networks.imagenet import ImageNetBackbone


def exportable(backbone: Backbone, size: int) -> Backbone:
    """The backbone, changed so that it resizes images of ``size`` pixels a side by matrix
    products."""
    for part in backbone.modules():
        if isinstance(part, ImageNetBackbone):
            part.resize = by_matrices(part.resize, size, part.size)
    return backbone


def by_matrices(
    resize: Callable[[Tensor, int], Tensor], before: int, after: int
) -> Callable[[Tensor, int], Tensor]:
    """The same resizing as two matrix products, which every format has and computes the same way.

    Resampling is linear, and the same for rows and for columns: Y = R X R'. Column i of R is the
    resized form of an image in which only row i is 1.
    """
    rows = torch.eye(before).view(before, 1, before, 1).expand(-1, -1, -1, before)
    matrix = resize(rows.contiguous(), after)[:, 0, :, 0].T.contiguous()  # after x before

    def resized(images: Tensor, _: int) -> Tensor:
        return matrix @ images @ matrix.T

    return resized
