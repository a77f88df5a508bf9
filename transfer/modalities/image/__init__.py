"""Images: decoding files and arrays to tensors of one size, and augmenting batches of them.

``decode`` is the module here; the function of that name is ``decode.decode``.
"""

from transfer.modalities.image.decode import (
    SUFFIXES,
    Picture,
    from_array,
    from_pixels,
    to_tensor,
)
from transfer.modalities.image.spec import ImageLimits, ImageSpec, Unreadable

__all__ = [
    "SUFFIXES",
    "ImageLimits",
    "ImageSpec",
    "Picture",
    "Unreadable",
    "from_array",
    "from_pixels",
    "to_tensor",
]
