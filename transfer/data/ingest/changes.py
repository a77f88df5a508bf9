"""What an ingest changed in a dataset, as its report tells it."""

from collections.abc import Sized

from transfer.core.config import Section


class Added(Section):
    """An item that the dataset did not have."""

    path: str
    """In the delivery."""
    id: str
    """In the dataset."""
    label: str


class Duplicate(Section):
    """An item that is known under the same label, and was left out."""

    path: str
    of: str
    """The item of the dataset, or the earlier file of the delivery, that it equals."""


class Conflict(Section):
    """An item that stands under another label already, and was left out."""

    path: str
    label: str
    """In the delivery."""
    of: str
    """The item of the dataset, or the other file of the delivery, that it equals."""
    stands_under: str
    """Label of that."""


class Relabelled(Section):
    """An item of the dataset whose label the delivery corrected."""

    path: str
    """In the delivery."""
    was: str
    """The item's id before."""
    id: str
    old_label: str
    label: str


class Removed(Section):
    """An item that the dataset no longer has."""

    id: str
    label: str


class ClassChange(Section):
    """One class of a dataset, before and after."""

    before: int
    added: int
    removed: int
    relabelled_to: int
    """Items that came from other classes."""
    relabelled_from: int
    """Items that went to other classes."""
    duplicates: int
    conflicts: int
    after: int


class Rejected(Section):
    """A file of the delivery that cannot be used."""

    path: str
    reason: str
    """A stable code."""
    detail: str


class Changes(Section):
    """An ingest, as written to ``reports/ingest.json``."""

    dataset: str
    delivery: str
    digest: str
    """Of the files delivered; the same delivery has the same, however it was packed."""
    before: str
    """DVC's md5 of the dataset; empty where there was none."""
    after: str
    taken: bool
    """False when the dataset is what it was."""
    refused: str
    """Why nothing was taken of a delivery that was refused; else empty."""
    classes: dict[str, ClassChange]
    added: list[Added]
    removed: list[Removed]
    relabelled: list[Relabelled]
    duplicates: list[Duplicate]
    conflicts: list[Conflict]
    rejects: list[Rejected]
    concerns: list[str]
    """What training will refuse about the dataset as it is afterwards."""
    quarantine: str
    """Folder of the rejected files; empty when there are none."""
    commit: str = ""
    """Git's id of the commit of data.dvc, where one was asked for."""
    pushed: bool = False

    def unusable(self) -> list[Rejected]:
        """The rejects, but for what file managers leave in every folder."""
        return [one for one in self.rejects if one.reason != "hidden"]

    def numbers(self) -> dict[str, int]:
        """How many files met each fate."""
        told: dict[str, Sized] = {
            "added": self.added,
            "removed": self.removed,
            "relabelled": self.relabelled,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "rejected": self.unusable(),
        }
        return {name: len(found) for name, found in told.items()}

    def sentence(self) -> str:
        """The numbers in one line."""
        return ", ".join(f"{n} {name}" for name, n in self.numbers().items() if n) or "empty"
