"""New data on its way into a dataset: what is new, what is known already, what contradicts it."""

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
    """What new data may cost, and what happens once it is in."""

    max_reject_share: float = Field(0.2, ge=0, le=1)
    """Largest share of incoming files that may be unusable; above it nothing is taken."""
    limits: DeliveryLimits = DeliveryLimits()
    """What a delivery may cost before anything of it is decoded."""


@dataclass(frozen=True)
class Item:
    """An item, where it lies, and its label."""

    id: str
    """Path inside the dataset or the delivery."""
    label: str
    content: str
    """Digest of the decoded content, by which items are the same: equal files have equal
    content."""
    sha256: str = ""
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class Findings:
    """What a delivery means for a dataset; every delivered item is in exactly one of the first
    four."""

    added: list[Item]
    duplicates: list[Duplicate]
    conflicts: list[Conflict]
    corrections: list[Item]
    """Delivered items that give known items another label, one for each such item."""
    relabelled: list[tuple[Item, Item]]
    """Items of the dataset, and the delivered item that corrects each."""
    removed: list[Item]

    @property
    def changes(self) -> int:
        """How many items differ afterwards."""
        return len(self.added) + len(self.relabelled) + len(self.removed)


def compare(
    existing: Sequence[Item],
    delivered: Sequence[Item],
    *,
    relabel: bool = False,
    replace: bool = False,
) -> Findings:
    """Compare a delivery with a dataset, by the content of items; names of files say nothing.

    Args:
        existing: the dataset's items.
        delivered: the delivery's items, which may repeat one another.
        relabel: the delivery is right where a label differs. Where it contradicts itself, it is
            right in neither.
        replace: the delivery is the whole dataset: items that it lacks are removed.
    """
    known, given = _by_content(existing), _by_content(delivered)
    found = Findings([], [], [], [], [], [])
    for content in sorted(given, key=lambda content: given[content][0].id):
        _place(given[content], known.get(content, []), found, relabel=relabel)
    if replace:
        found.removed.extend(item for item in existing if item.content not in given)
    return found


def _by_content(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.id):
        groups[item.content].append(item)
    return groups


def _place(same: list[Item], known: list[Item], found: Findings, *, relabel: bool) -> None:
    """Sort delivered items of one content, of which the dataset has some or none."""
    first, *copies = same
    if other := next((copy for copy in copies if copy.label != first.label), None):
        for item in same:
            against = first if item.label != first.label else other
            found.conflicts.append(_conflict(item, against))
        return
    wrong = [item for item in known if item.label != first.label]
    if wrong and not relabel:
        found.conflicts.extend(_conflict(item, wrong[0]) for item in same)
        return
    if wrong:
        found.corrections.append(first)
        found.relabelled.extend((item, first) for item in wrong)
    elif known:
        found.duplicates.append(Duplicate(path=first.id, of=known[0].id))
    else:
        found.added.append(first)
    found.duplicates.extend(Duplicate(path=copy.id, of=first.id) for copy in copies)


def _conflict(item: Item, against: Item) -> Conflict:
    return Conflict(path=item.id, label=item.label, of=against.id, stands_under=against.label)


def items_of(table: pd.DataFrame) -> list[Item]:
    """The items of what `transfer.data.scan.survey` found."""
    columns = ("id", "label", "content", "sha256", "group", "given_split")
    return [Item(*row) for row in zip(*(table[name] for name in columns), strict=True)]


def unfit(table: pd.DataFrame, quality: QualitySettings, modality: Modality) -> list[Reject]:
    """What training would refuse of readable items, one by one; see `validate:`.

    Args:
        table: what `transfer.data.scan.survey` found.
        quality: the section `validate`, with the thresholds of the modality.
        modality: of the items.
    """
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    return [Reject(row["id"], *why) for row in rows if (why := modality.fault(row, quality))]


def unknown_classes(items: Sequence[Item], known: Sequence[str]) -> list[Reject]:
    """Reject items of classes that a dataset does not have, with the class that may be meant."""
    rejects = []
    folded = {name.casefold().strip(): name for name in known}
    for item in items:
        if item.label in known:
            continue
        near = folded.get(item.label.casefold().strip())
        near = near or next(iter(difflib.get_close_matches(item.label, known, 1)), None)
        hint = f"; did you mean {near!r}?" if near else ""
        told = f"the dataset has no class {item.label!r}{hint}"
        rejects.append(Reject(item.id, "unknown_class", told))
    return rejects


def by_class(
    existing: Sequence[Item], delivered: Sequence[Item], found: Findings
) -> dict[str, ClassChange]:
    """What changes in each class; duplicates and conflicts under the label that was delivered."""
    label = {item.id: item.label for item in delivered}
    counts: Mapping[str, Counter[str]] = {
        "before": Counter(item.label for item in existing),
        "added": Counter(item.label for item in found.added),
        "removed": Counter(item.label for item in found.removed),
        "relabelled_to": Counter(right.label for _, right in found.relabelled),
        "relabelled_from": Counter(item.label for item, _ in found.relabelled),
        "duplicates": Counter(label[one.path] for one in found.duplicates),
        "conflicts": Counter(one.label for one in found.conflicts),
    }
    names = sorted(set().union(*counts.values()))
    return {name: _change({key: told[name] for key, told in counts.items()}) for name in names}


def _change(counts: dict[str, int]) -> ClassChange:
    gained = counts["added"] + counts["relabelled_to"]
    lost = counts["removed"] + counts["relabelled_from"]
    return ClassChange(**counts, after=counts["before"] + gained - lost)


def concerns(classes: Mapping[str, ClassChange], quality: QualitySettings) -> list[str]:
    """What training will refuse about the numbers of items, as they are afterwards."""
    left = {name: one.after for name, one in classes.items() if one.after}
    told = [f"class {name!r} has no item any more" for name in classes if name not in left]
    for name, items in left.items():
        if items < quality.min_items_per_class:
            least = f"{quality.min_items_per_class} (validate.min_items_per_class)"
            told.append(f"class {name!r} has {items} items; training expects {least}")
        elif items * quality.max_imbalance < max(left.values()):
            most = f"{quality.max_imbalance:g} times fewer (validate.max_imbalance)"
            told.append(f"class {name!r} has {items} items; training expects at most {most}")
    if len(left) < quality.min_classes:
        told.append(f"there are {len(left)} classes; training expects {quality.min_classes}")
    return told
