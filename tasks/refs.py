"""What travels between tasks: where a result lies and what it is, never the result itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ref:
    """A stored result: its folder, and the digest of the folder's content."""

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
        """What a result that is made from it depends on."""
        return {"scan": self.scan.digest, "split": self.split.digest}


@dataclass(frozen=True)
class Source:
    """A knowledge source: a pretrained network, and the items it learned from if we have them."""

    name: str
    knowledge: Ref
    items: Divided | None


@dataclass(frozen=True)
class Dataset:
    """A dataset as it is now: where it lies and DVC's fingerprint of its bytes."""

    name: str
    path: Path
    md5: str


@dataclass(frozen=True)
class ArmRef:
    """A finished arm."""

    method: str
    seed: int
    steps: int
    ref: Ref
    source: str = ""
    """Name of its knowledge source, in a run of several; a method of all of them has none."""

    @property
    def label(self) -> str:
        """What the arms that differ by their seed alone share."""
        return f"{self.method}/{self.source}" if self.source else self.method

    @property
    def name(self) -> str:
        """The label and the seed."""
        return f"{self.label}/{self.seed}"
