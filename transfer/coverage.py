"""How many items of each class a split gives, and whether that is enough to train and judge."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transfer.duplicates import MAX_PAIRS, NearPair, linked_sets
from transfer.sample import Manifest
from transfer.sides import TEST, TRAIN, VAL, highest, keys, ranks

SPLITS = ["train", "val", "test", "excluded"]
EXAMPLES = 20
SEEDS = 1000  # tried when a class lacks items


def table(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """Count the items of each class, one row a class in the manifest's order.

    Returns:
        Columns ``train``, ``val``, ``test``, ``excluded``, ``labelled``, and ``independent``:
        labelled items where copies and members of one group count once.
    """
    label = manifest.items["label"].to_numpy()
    classes = range(len(manifest.class_names))
    counts = pd.crosstab(label, frame["split"].to_numpy())
    counts = counts.reindex(index=classes, columns=SPLITS, fill_value=0)
    chosen = frame["labelled"].to_numpy()
    sets = pd.Series(linked_sets(manifest.items)[chosen]).groupby(label[chosen])
    counts["labelled"] = sets.size().reindex(classes, fill_value=0)
    counts["independent"] = sets.nunique().reindex(classes, fill_value=0)
    return counts.set_axis(pd.Index(manifest.class_names), axis=0)


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
    label = items["label"].to_numpy()
    sizes = pd.Series(sets).groupby(label).nunique()
    if len(sizes) < len(manifest.class_names) or (sizes <= max(folds, 1)).any():
        return
    parts = []  # of one class each: rows of its items and of all that are linked to them
    for index in sizes.sort_values().index:
        rows = np.flatnonzero(np.isin(sets, sets[label == index]))
        parts.append((rows, label[rows] == index))
    given, drawn_by = items["given_split"].to_numpy(), np.array(keys(items), dtype=object)
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
        "near_duplicates": _near(frame, near),
    }


def exclusions(frame: pd.DataFrame) -> dict[str, int]:
    """Count the excluded items by reason, most frequent first."""
    reasons = frame.loc[frame["split"] == "excluded", "reason"]
    return {str(name): int(count) for name, count in reasons.value_counts().items()}


def _conflicts(items: pd.DataFrame) -> int:
    return int((items.groupby("pixels")["label"].transform("nunique") > 1).sum())


def _near(frame: pd.DataFrame, near: Sequence[NearPair]) -> dict[str, Any]:
    split = dict(zip(frame["id"], frame["split"], strict=True))
    sides = [f"{split[pair.a]}-{split[pair.b]}" for pair in near]
    names, counts = np.unique(sides, return_counts=True)
    touched = pd.Series([split[name] for name in {x for pair in near for x in (pair.a, pair.b)}])
    return {
        "pairs": len(near),
        "search_stopped": len(near) >= MAX_PAIRS,
        "by_splits": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "items": {name: int((touched == name).sum()) for name in SPLITS[:3]},
        "examples": [
            {"a": x.a, "a_split": split[x.a], "b": x.b, "b_split": split[x.b], "rms": x.rms}
            for x in near[:EXAMPLES]
        ],
    }
