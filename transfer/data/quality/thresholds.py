"""Thresholds of data validation: the requirements on a dataset before training."""

from typing import Any, cast

from pydantic import Field, create_model, model_validator

from transfer.data.label_overlap import Relation
from transfer.modalities import lookup
from transfer.modalities.interface import Thresholds

RELATIONS: tuple[Relation, ...] = ("same", "subset", "superset", "overlap", "disjoint")


class QualitySettings(Thresholds):
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
    max_duplicate_share: float = Field(0.2, ge=0, le=1)
    """Largest share of items whose content equals that of an earlier item."""
    max_conflict_share: float = Field(0.01, ge=0, le=1)
    """Largest share of items whose content also stands under another label."""
    max_cross_split_duplicates: int = Field(0, ge=0)
    """Most items that have a copy, or a member of their group, in another split."""
    warn_near_duplicate_share: float = Field(0.01, ge=0, le=1)
    """A larger share of the target's val and test items with a near-duplicate in another split is a
    warning."""
    max_near_duplicate_share: float = Field(0.2, ge=0, le=1)
    """A larger share of such items is an error."""
    relations: tuple[Relation, ...] = RELATIONS
    """Accepted relations of the source's classes to the target's."""

    @model_validator(mode="after")
    def _keep_order_of_shares(self) -> "QualitySettings":
        low, high = self.warn_near_duplicate_share, self.max_near_duplicate_share
        if low > high:
            raise ValueError(
                f"warn_near_duplicate_share is {low}, above max_near_duplicate_share, {high}"
            )
        return self


def of_modality(name: str) -> type[QualitySettings]:
    """The section ``validate`` for a modality: these thresholds and the modality's own.

    Raises:
        SettingsError: there is no such modality.
    """
    lookup.get(name)
    return KINDS[name]


def _kind(name: str) -> type[QualitySettings]:
    own = lookup.get(name).thresholds
    bases: Any = (QualitySettings, own)
    kind = create_model(
        f"{name.title()}Quality",
        __base__=bases,
        __module__=__name__,
        __doc__=QualitySettings.__doc__,
    )
    return cast("type[QualitySettings]", kind)


KINDS: dict[str, Any] = {name: _kind(name) for name in lookup.names()}
"""The section ``validate`` of every modality."""
globals().update({each.__name__: each for each in KINDS.values()})  # where pickle finds them
