"""How many items of each class a split gives, and whether that is enough to train and judge."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from transfer.data.manifest import Manifest
from transfer.data.splits.assignment import TEST, TRAIN, VAL, highest, keys, ranks
from transfer.data.splits.duplicates import (
    MAX_PAIRS,
    NearPair,
    hashes,
    judged,
    linked_sets,
    repeated,
)
from transfer.data.storage.table import Items, chosen, numbers, parts

SPLITS = ["train", "val", "test", "excluded"]
EXAMPLES = 20
SEEDS = 1000  # tried when a class lacks items


def table(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """Count the items of each class, one row a class in the manifest's order.

    Returns:
        Columns ``train``, ``val``, ``test``, ``excluded``, ``labelled``, and ``independent``:
        labelled items where copies and members of one group count once.
    """
    kept, classes = frame["labelled"].to_numpy(bool), len(manifest.class_names)
    sets = linked_sets(manifest.items)[kept]
    label = numbers(manifest.items, "label")
    table = pd.DataFrame(
        {name: np.bincount(label[frame["split"] == name], minlength=classes) for name in SPLITS}
    )
    table["labelled"] = np.bincount(label[kept], minlength=classes)
    table["independent"] = _independent(label[kept], sets, classes)
    return table.set_axis(pd.Index(manifest.class_names), axis=0)


def _independent(
    label: NDArray[np.int32], sets: NDArray[np.int32], classes: int
) -> NDArray[np.int64]:
    """Count the sets of linked items of each class."""
    both = sets.astype(np.int64) * classes + label
    both.sort()
    first = np.flatnonzero(np.diff(both, prepend=-1))
    return np.bincount(both[first] % classes, minlength=classes)


def lacking(counts: pd.DataFrame, folds: int, *, unlabelled: bool = False) -> pd.DataFrame:
    """Give the rows of `table` that are too small to train on, choose by and judge.

    A target that is used without labels is only judged.
    """
    if unlabelled:
        return counts[counts["test"] < 1]
    short = (counts["test"] < 1) | (counts["independent"] < max(folds, 1))
    if not folds:
        short |= counts["val"] < 1
    return counts[short]


def refusal(
    name: str, short: pd.DataFrame, frame: pd.DataFrame, *, folds: int, ways: Sequence[str]
) -> str:
    """Say which classes of a dataset lack what, and what would help.

    Args:
        short: what `lacking` gave.
        ways: what the user can do.
    """
    chosen_by = f"{folds} labelled items" if folds else "1 labelled item and 1 val item"
    head = (
        f"dataset {name}: {len(short)} class{'es' * (len(short) != 1)} with too few items; each "
        f"needs at least 1 test item and {chosen_by} (independent: copies and members of one "
        "group count once)"
    )
    lines = [
        f"  {label}: " + ", ".join(f"{column} {count}" for column, count in row.items())
        for label, row in short.to_dict("index").items()
    ]
    left_out = ", ".join(f"{count} {reason}" for reason, count in exclusions(frame).items())
    return "\n".join([head, *lines, "; ".join(ways)]) + f". Excluded: {left_out or 'none'}"


def candidate_seeds(
    manifest: Manifest, *, val: float, test: float, folds: int, merge_val: bool
) -> Iterator[int]:
    """Yield the seeds below SEEDS that give every class what it needs, before a cap on labels.

    Looks at class counts only, smallest class first: a seed is judged by what it lacks and never
    by how well a model would do on it.
    """
    items, sets = manifest.items, linked_sets(manifest.items)
    label = numbers(items, "label")
    sizes = pd.Series(sets).groupby(label).nunique()
    if len(sizes) < len(manifest.class_names) or (sizes <= max(folds, 1)).any():
        return
    parts = []  # of one class each: rows of its items and of all that are linked to them
    for index in sizes.sort_values().index:
        rows = np.flatnonzero(np.isin(sets, sets[label == index]))
        parts.append((rows, label[rows] == index))
    given = items["given_split"].to_numpy()
    drawn_by = np.array(keys(items[["group", "content"]]), dtype=object)
    for seed in range(SEEDS):
        placed = (
            (ranks(given[rows], drawn_by[rows], seed, val, test), sets[rows], mine)
            for rows, mine in parts
        )
        if all(_covers(*part, folds, merge_val) for part in placed):
            yield seed


def _covers(
    rank: np.ndarray, sets: np.ndarray, mine: np.ndarray, folds: int, merge_val: bool
) -> bool:
    live = mine & (rank == highest(rank, sets))
    pool = np.unique(sets[live & (rank <= (VAL if merge_val else TRAIN))])
    chosen_by = bool(folds) or (live & (rank == VAL)).any()
    return bool((live & (rank == TEST)).any() and chosen_by and len(pool) >= max(folds, 1))


def summary(manifest: Manifest, frame: pd.DataFrame, near: Sequence[NearPair]) -> dict[str, Any]:
    """Describe a split for ``split.json``: counts, exclusions, doubtful labels, near pairs."""
    counts = table(manifest, frame)
    return {
        "dataset": manifest.name,
        "items": len(frame),
        **{str(name): int(total) for name, total in counts.sum().items()},
        "excluded_by_reason": exclusions(frame),
        "classes": {str(name): row for name, row in counts.to_dict("index").items()},
        "same_picture_other_label": _conflicts(manifest.items),
        "near_duplicates": _near(manifest.items, frame["split"], near),
    }


def exclusions(frame: pd.DataFrame) -> dict[str, int]:
    """Count the excluded items by reason, most frequent first."""
    reasons = frame.loc[frame["split"] == "excluded", "reason"]
    return {str(name): int(count) for name, count in reasons.value_counts().items() if count}


def _conflicts(items: Items) -> int:
    rows, codes = repeated(hashes(items, "content"))
    labels = pd.Series(numbers(items, "label")[rows])
    return int((labels.groupby(codes).transform("nunique") > 1).sum())


def _near(items: Items, sides: pd.Series, near: Sequence[NearPair]) -> dict[str, Any]:
    split = _sides_of(items, sides, {name for pair in near for name in (pair.a, pair.b)})
    found = [f"{split[pair.a]}-{split[pair.b]}" for pair in near]
    names, counts = np.unique(found, return_counts=True)
    about = judged(items, sides)
    searched = set(chosen(items, np.concatenate([*about.values()]), "id")["id"])
    touched = [side for name, side in split.items() if side == "train" or name in searched]
    return {
        "pairs": len(near),
        "search_stopped": len(near) >= MAX_PAIRS,
        "by_splits": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "items": {name: touched.count(name) for name in SPLITS[:3]},
        "searched": {name: len(rows) for name, rows in about.items()},
        "examples": [
            {"a": x.a, "a_split": split[x.a], "b": x.b, "b_split": split[x.b], "rms": x.rms}
            for x in near[:EXAMPLES]
        ],
    }


def _sides_of(items: Items, sides: pd.Series, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for rows, part in parts(items, "id") if ids else ():
        here = part["id"].isin(ids).to_numpy()
        found |= dict(zip(part["id"][here], sides.iloc[rows][here], strict=True))
    return found
