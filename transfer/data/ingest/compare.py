"""Compare new data with a dataset: which items are new, already present, or contradictory."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pydantic import Field

from transfer.core.config import Section
from transfer.data.ingest.archive import DeliveryLimits
from transfer.data.ingest.changes import ClassChange, Conflict, Duplicate
from transfer.data.quality.thresholds import QualitySettings
from transfer.data.readers.listing import Reject
from transfer.modalities.interface import Modality


class IngestSettings(Section):
    """Limits for new data."""

    max_reject_share: float = Field(0.2, ge=0, le=1)
    """Largest share of incoming files that may be unusable; above it the
    delivery is refused."""
    limits: DeliveryLimits = DeliveryLimits()
    """Limits of a delivery, checked before any of its items is decoded."""


@dataclass(frozen=True)
class Item:
    """An item, its path and its label."""

    id: str
    """Path inside the dataset or the delivery."""
    label: str
    content: str
    """Digest of the decoded content; items with the same digest are copies. Equal files have the
    same digest."""
    sha256: str = ""
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class Findings:
    """The result of a comparison; each delivered item is in exactly one of the first four lists."""

    added: list[Item]
    duplicates: list[Duplicate]
    conflicts: list[Conflict]
    corrections: list[Item]
    """Delivered items that give items of the dataset another label, one for each content."""
    relabelled: list[tuple[Item, Item]]
    """Items of the dataset, and the delivered item that corrects each."""
    removed: list[Item]

    @property
    def changes(self) -> int:
        """Number of items that differ afterwards."""
        return len(self.added) + len(self.relabelled) + len(self.removed)


def compare(
    existing: Sequence[Item],
    delivered: Sequence[Item],
    *,
    relabel: bool = False,
    replace: bool = False,
) -> Findings:
    """Compare a delivery with a dataset by the content of items; file names are not compared.

    Args:
        existing: the dataset's items.
        delivered: the delivery's items, which may contain copies of each other.
        relabel: where a label differs, the delivery's label is used. Where delivered copies have
            different labels, none of them is used.
        replace: the delivery is the whole dataset: items that it lacks are removed.
    """
    old, new = _by_content(existing), _by_content(delivered)
    findings = Findings([], [], [], [], [], [])
    for content in sorted(new, key=lambda content: new[content][0].id):
        _place(new[content], old.get(content, []), findings, relabel=relabel)
    if replace:
        findings.removed.extend(item for item in existing if item.content not in new)
    return findings


def _by_content(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.id):
        groups[item.content].append(item)
    return groups


def _place(same: list[Item], existing: list[Item], findings: Findings, *, relabel: bool) -> None:
    """Add delivered items of one content to the findings.

    Args:
        same: delivered items with this content.
        existing: items of the dataset with this content.
        findings: changed in place.
        relabel: as in `compare`.
    """
    first, *copies = same
    if other := next((copy for copy in copies if copy.label != first.label), None):
        for item in same:
            against = first if item.label != first.label else other
            findings.conflicts.append(_conflict(item, against))
        return
    wrong = [item for item in existing if item.label != first.label]
    if wrong and not relabel:
        findings.conflicts.extend(_conflict(item, wrong[0]) for item in same)
        return
    if wrong:
        findings.corrections.append(first)
        findings.relabelled.extend((item, first) for item in wrong)
    elif existing:
        findings.duplicates.append(Duplicate(path=first.id, of=existing[0].id))
    else:
        findings.added.append(first)
    findings.duplicates.extend(Duplicate(path=copy.id, of=first.id) for copy in copies)


def _conflict(item: Item, against: Item) -> Conflict:
    return Conflict(path=item.id, label=item.label, of=against.id, stands_under=against.label)


def items_of(table: pd.DataFrame) -> list[Item]:
    """The items in a table from `transfer.data.scan.survey`."""
    columns = ("id", "label", "content", "sha256", "group", "given_split")
    return [Item(*row) for row in zip(*(table[name] for name in columns), strict=True)]


def unfit(table: pd.DataFrame, quality: QualitySettings, modality: Modality) -> list[Reject]:
    """Reject readable items that training would refuse; see `validate:`.

    Args:
        table: the table from `transfer.data.scan.survey`.
        quality: the section `validate`, with the thresholds of the modality.
        modality: of the items.
    """
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    return [Reject(row["id"], *fault) for row in rows if (fault := modality.fault(row, quality))]


def unknown_classes(items: Sequence[Item], known: Sequence[str]) -> list[Reject]:
    """Reject items of classes that a dataset does not have; suggest the most similar class."""
    rejects = []
    folded = {name.casefold().strip(): name for name in known}
    for item in items:
        if item.label in known:
            continue
        near = folded.get(item.label.casefold().strip())
        near = near or next(iter(difflib.get_close_matches(item.label, known, 1)), None)
        hint = f"; did you mean {near!r}?" if near else ""
        detail = f"the dataset has no class {item.label!r}{hint}"
        rejects.append(Reject(item.id, "unknown_class", detail))
    return rejects


def by_class(
    existing: Sequence[Item], delivered: Sequence[Item], findings: Findings
) -> dict[str, ClassChange]:
    """The changes in each class; duplicates and conflicts count under the delivered label."""
    label = {item.id: item.label for item in delivered}
    counts: Mapping[str, Counter[str]] = {
        "before": Counter(item.label for item in existing),
        "added": Counter(item.label for item in findings.added),
        "removed": Counter(item.label for item in findings.removed),
        "relabelled_to": Counter(correction.label for _, correction in findings.relabelled),
        "relabelled_from": Counter(item.label for item, _ in findings.relabelled),
        "duplicates": Counter(label[duplicate.path] for duplicate in findings.duplicates),
        "conflicts": Counter(conflict.label for conflict in findings.conflicts),
    }
    names = sorted(set().union(*counts.values()))
    return {name: _change({key: n[name] for key, n in counts.items()}) for name in names}


def _change(counts: dict[str, int]) -> ClassChange:
    gained = counts["added"] + counts["relabelled_to"]
    lost = counts["removed"] + counts["relabelled_from"]
    return ClassChange(**counts, after=counts["before"] + gained - lost)


def concerns(classes: Mapping[str, ClassChange], quality: QualitySettings) -> list[str]:
    """Why training will refuse the numbers of items per class after the ingest."""
    left = {name: change.after for name, change in classes.items() if change.after}
    messages = [f"class {name!r} has no items any more" for name in classes if name not in left]
    for name, items in left.items():
        if items < quality.min_items_per_class:
            least = f"{quality.min_items_per_class} (validate.min_items_per_class)"
            messages.append(f"class {name!r} has {items} items; training expects {least}")
        elif items * quality.max_imbalance < max(left.values()):
            most = f"{quality.max_imbalance:g} times fewer (validate.max_imbalance)"
            messages.append(f"class {name!r} has {items} items; training expects at most {most}")
    if len(left) < quality.min_classes:
        messages.append(f"there are {len(left)} classes; training expects {quality.min_classes}")
    return messages
