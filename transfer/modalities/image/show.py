"""Many images in one plot, in rows and columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SIDE = 48  # pixels of one image in a sheet
GAP = 2  # pixels between images of a sheet


def mosaic(
    axes: "Axes", cells: Sequence[Sequence[NDArray[np.uint8]]], columns: int, *, lead: bool = False
) -> None:
    """Draw rows of images (C, H, W) uint8 so that image (r, c) is centred on (c, r).

    Args:
        axes: where to draw.
        cells: rows of up to ``columns`` images; missing cells stay empty.
        columns: images per row.
        lead: set the first column apart by half an image.
    """
    small = [[_thumbnail(image) for image in row] for row in cells]
    side = max((max(image.shape[:2]) for row in small for image in row), default=1)
    step, apart = side + GAP, side // 2 if lead else 0
    sheet = np.zeros((len(cells) * step - GAP, columns * step - GAP + apart, 4), np.uint8)
    for r, row in enumerate(small):
        for c, image in enumerate(row):
            top, left = r * step, c * step + (apart if c else 0)
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    extent = (-0.5, sheet.shape[1] / step - 0.5, len(cells) - 0.5, -0.5)
    axes.imshow(sheet, interpolation="none", extent=extent, aspect="equal")
    axes.grid(visible=False)


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (C, H, W) as RGBA (h, w, 4), each pixel the mean of a block of its pixels."""
    block = -(-max(image.shape[1:]) // MAX_SIDE)
    c, h, w = len(image), image.shape[1] // block, image.shape[2] // block
    blocks = image[:, : h * block, : w * block].reshape(c, h, block, w, block)
    small = blocks.mean((2, 4)).round().astype(np.uint8)
    rgb = small[[0, 0, 0]] if c < 3 else small[:3]
    return np.dstack([*rgb, np.full((h, w), 255, np.uint8)])
