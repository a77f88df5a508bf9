"""Which classes two datasets have in common, and which rows of a trained head can be copied."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transfer.core.errors import DataRefusedError

Relation = Literal["same", "subset", "superset", "overlap", "disjoint"]


@dataclass(frozen=True)
class LabelRelation:
    """The classes of a source and a target, matched by exact name.

    ``relation`` compares the source's classes with the target's: the ``same`` set, a proper
    ``subset`` or ``superset`` of the target's, an ``overlap``, or ``disjoint``.
    """

    shared: tuple[str, ...]  # in the target's order
    source_only: tuple[str, ...]  # in the source's order
    target_only: tuple[str, ...]  # in the target's order
    relation: Relation


def relate(source_classes: Sequence[str], target_classes: Sequence[str]) -> LabelRelation:
    """Compare the class names of a source with those of a target. Order does not matter.

    Raises:
        DataRefusedError: a list contains a name twice.
    """
    row_map(source_classes, target_classes)
    shared = tuple(name for name in target_classes if name in source_classes)
    source_only = tuple(name for name in source_classes if name not in shared)
    target_only = tuple(name for name in target_classes if name not in shared)
    return LabelRelation(
        shared, source_only, target_only, _relation(shared, source_only, target_only)
    )


def row_map(source: Sequence[str], target: Sequence[str]) -> list[int | None]:
    """For each target class, the row of the source head to copy; None where there is none.

    Raises:
        DataRefusedError: a list contains a name twice, so a row would be ambiguous.
    """
    for domain, names in (("source", source), ("target", target)):
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataRefusedError(
                f"the {domain} lists class {', '.join(map(repr, repeated))} more than once; "
                "expected distinct names: rename or merge them"
            )
    rows = {name: row for row, name in enumerate(source)}
    return [rows.get(name) for name in target]


def _relation(
    shared: Sequence[str], source_only: Sequence[str], target_only: Sequence[str]
) -> Relation:
    if not shared:
        return "disjoint"
    if source_only and target_only:
        return "overlap"
    return "superset" if source_only else "subset" if target_only else "same"
