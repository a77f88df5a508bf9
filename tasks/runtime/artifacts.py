"""What tasks pass to each other: references to stored results, never the results themselves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.arms.plan import ArmPlan


@dataclass(frozen=True)
class Ref:
    """A reference to a stored result: its folder, and the digest of the folder's content."""

    path: Path
    digest: str
    seconds: float
    """Wall time of the computation that made it."""
    reused: bool
    """True when a stored result was used."""


@dataclass(frozen=True)
class Divided:
    """A dataset, decoded and split."""

    scan: Ref
    split: Ref

    def inputs(self) -> dict[str, str]:
        """Digests of the scan and the split, as inputs of the cache key of a later step."""
        return {"scan": self.scan.digest, "split": self.split.digest}


@dataclass(frozen=True)
class Source:
    """A knowledge source: a pretrained network, and its training items where they are available."""

    name: str
    knowledge: Ref
    items: Divided | None
    trained_here: bool = True
    """False for weights that come with an installed package."""
    parts: tuple[str, ...] = ()
    """Names of the datasets, where the network was trained on several."""


@dataclass(frozen=True)
class Dataset:
    """A dataset: its path and DVC's md5 of its bytes."""

    name: str
    path: Path
    md5: str
    revision: str = ""
    """The older version of the data that was asked for; empty for the data as it is now."""


@dataclass(frozen=True)
class ArmRef:
    """A reference to a trained arm."""

    plan: "ArmPlan"
    seed: int
    steps: int
    ref: Ref
    finalist: bool = True
    """False where its group (the method and its source) was stopped after the first seed."""

    @property
    def name(self) -> str:
        """The plan's label and the seed."""
        return f"{self.plan.label}/{self.seed}"


@dataclass(frozen=True)
class TrainedArms:
    """What the trainings of a run made."""

    sources: Sequence[Source]
    """What arms were trained on."""
    advice: Ref
    """The advisor's measures of every source."""
    arms: list[ArmRef]
    """Those that a decision is made of; finalists first."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why, by name of each arm, source or search that a time budget left out."""
    ended: float = field(default_factory=time.time)
    """When the last training ended, in seconds since the epoch."""
