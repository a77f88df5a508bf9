"""The changes of an ingest to a dataset, as written to its report."""

from collections.abc import Sized

from transfer.core.config import Section


class Added(Section):
    """An item that the dataset did not have."""

    path: str
    """Path in the delivery."""
    id: str
    """Id in the dataset."""
    label: str


class Duplicate(Section):
    """An item that the dataset has under the same label; it was left out."""

    path: str
    of: str
    """The item of the dataset, or the earlier file of the delivery, that it equals."""


class Conflict(Section):
    """An item that the dataset or the delivery has under another label; it was left out."""

    path: str
    label: str
    """Label in the delivery."""
    of: str
    """The item of the dataset, or the other file of the delivery, that it equals."""
    stands_under: str
    """Label of ``of``."""


class Relabelled(Section):
    """An item of the dataset whose label the delivery corrected."""

    path: str
    """Path in the delivery."""
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
    """Digest of the files delivered; it does not depend on how the delivery was packed."""
    before: str
    """DVC's md5 of the dataset; empty where there was none."""
    after: str
    taken: bool
    """False when the dataset was not changed."""
    refused: str
    """The reason where the delivery was refused as a whole; else empty."""
    classes: dict[str, ClassChange]
    added: list[Added]
    removed: list[Removed]
    relabelled: list[Relabelled]
    duplicates: list[Duplicate]
    conflicts: list[Conflict]
    rejects: list[Rejected]
    concerns: list[str]
    """Why training will refuse the dataset after the ingest."""
    quarantine: str
    """Folder of the rejected files; empty when there are none."""
    commit: str = ""
    """Git's id of the commit of data.dvc, where a commit was requested."""
    pushed: bool = False

    def unusable(self) -> list[Rejected]:
        """The rejects without the hidden files that file managers create."""
        return [reject for reject in self.rejects if reject.reason != "hidden"]

    def numbers(self) -> dict[str, int]:
        """Number of files in each outcome."""
        outcomes: dict[str, Sized] = {
            "added": self.added,
            "removed": self.removed,
            "relabelled": self.relabelled,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "rejected": self.unusable(),
        }
        return {name: len(entries) for name, entries in outcomes.items()}

    def sentence(self) -> str:
        """The numbers in one line."""
        return ", ".join(f"{n} {name}" for name, n in self.numbers().items() if n) or "empty"
