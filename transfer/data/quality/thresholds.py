"""Thresholds of data validation: the requirements on a dataset before training."""

from pydantic import Field, model_validator

from transfer.core.config import Section
from transfer.data.label_overlap import Relation

MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "array")
RELATIONS: tuple[Relation, ...] = ("same", "subset", "superset", "overlap", "disjoint")


class QualitySettings(Section):
    """Requirements that a dataset must meet before training. A share is a fraction, 0 to 1."""

    max_reject_share: float = Field(0.05, ge=0, le=1)
    """Largest share of a dataset's files that may be unusable."""
    min_items: int = Field(10, ge=1)
    """Fewest usable items in a dataset."""
    min_classes: int = Field(2, ge=2)
    """Fewest classes in a dataset."""
    min_items_per_class: int = Field(5, ge=1)
    """Fewest usable items in a class."""
    max_imbalance: float = Field(50, ge=1)
    """Largest allowed ratio of the items of the largest class to the items of any other class."""
    min_side: int = Field(4, ge=1)
    """Shortest width or height of a picture, pixels."""
    max_side: int = Field(10_000, ge=1)
    """Longest width or height of a picture, pixels."""
    modes: tuple[str, ...] = MODES + DEEP_MODES
    """Pixel modes that are accepted, as Pillow names them."""
    formats: tuple[str, ...] = FORMATS
    """File formats that are accepted, as Pillow names them; `array` is a row of an .npz file."""
    min_std: float = Field(1.0, ge=0, le=127.5)
    """A picture whose grey levels (0-255) have a smaller standard deviation counts as empty."""
    max_empty_share: float = Field(0.01, ge=0, le=1)
    """Largest share of empty pictures."""
    max_duplicate_share: float = Field(0.2, ge=0, le=1)
    """Largest share of items whose picture equals that of an earlier item."""
    max_conflict_share: float = Field(0.01, ge=0, le=1)
    """Largest share of items whose picture also stands under another label."""
    max_cross_split_duplicates: int = Field(0, ge=0)
    """Most items that have a copy, or a member of their group, in another split."""
    near_duplicate_rms: float = Field(0.02, ge=0, le=1)
    """Pictures whose 16 x 16 thumbnails differ by at most this root mean square, of a grey scale
    from 0 to 1, are near-duplicates."""
    warn_near_duplicate_share: float = Field(0.01, ge=0, le=1)
    """A larger share of the target's val and test items with a near-duplicate in another split is a
    warning."""
    max_near_duplicate_share: float = Field(0.2, ge=0, le=1)
    """A larger share of such items is an error."""
    relations: tuple[Relation, ...] = RELATIONS
    """Accepted relations of the source's classes to the target's."""

    @model_validator(mode="after")
    def _keep_order(self) -> "QualitySettings":
        for low, high in (
            ("min_side", "max_side"),
            ("warn_near_duplicate_share", "max_near_duplicate_share"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} is {getattr(self, low)}, above {high}, {getattr(self, high)}"
                )
        return self
