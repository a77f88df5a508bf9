"""Number of items of each class in a split, and whether they suffice to train and evaluate."""

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
SEEDS = 1000  # number of seeds tried when a class lacks items


def table(manifest: Manifest, frame: pd.DataFrame) -> pd.DataFrame:
    """Count the items of each class; a row per class, in the manifest's order.

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
    codes = sets.astype(np.int64) * classes + label
    codes.sort()
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return np.bincount(codes[first] % classes, minlength=classes)


def lacking(counts: pd.DataFrame, folds: int, *, unlabelled: bool = False) -> pd.DataFrame:
    """Rows of `table` with too few items for training, selection or evaluation.

    A target that is used without labels needs items for evaluation only.
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
    """Error message: the classes with too few items, their counts, and possible solutions.

    Args:
        short: the rows that `lacking` returned.
        ways: actions that the user can take.
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
    """Yield the seeds below SEEDS with enough items of every class, before the limit on labels.

    Only class counts are used, smallest class first; the accuracy of a model never decides which
    seed is proposed.
    """
    items, sets = manifest.items, linked_sets(manifest.items)
    label = numbers(items, "label")
    sizes = pd.Series(sets).groupby(label).nunique()
    if len(sizes) < len(manifest.class_names) or (sizes <= max(folds, 1)).any():
        return
    class_rows = []  # per class: rows of its items and of all items linked to them
    for index in sizes.sort_values().index:
        rows = np.flatnonzero(np.isin(sets, sets[label == index]))
        class_rows.append((rows, label[rows] == index))
    given = items["given_split"].to_numpy()
    drawn_by = np.array(keys(items[["group", "content"]]), dtype=object)
    for seed in range(SEEDS):
        placed = (
            (ranks(given[rows], drawn_by[rows], seed, val, test), sets[rows], of_class)
            for rows, of_class in class_rows
        )
        if all(_covers(*part, folds, merge_val) for part in placed):
            yield seed


def _covers(
    rank: np.ndarray, sets: np.ndarray, of_class: np.ndarray, folds: int, merge_val: bool
) -> bool:
    included = of_class & (rank == highest(rank, sets))
    trainable_sets = np.unique(sets[included & (rank <= (VAL if merge_val else TRAIN))])
    can_select = bool(folds) or (included & (rank == VAL)).any()
    return bool(
        (included & (rank == TEST)).any() and can_select and len(trainable_sets) >= max(folds, 1)
    )


def summary(manifest: Manifest, frame: pd.DataFrame, near: Sequence[NearPair]) -> dict[str, Any]:
    """Summary of a split for ``split.json``: counts, exclusions, conflicting labels, near pairs."""
    counts = table(manifest, frame)
    return {
        "dataset": manifest.name,
        "items": len(frame),
        **{str(name): int(total) for name, total in counts.sum().items()},
        "excluded_by_reason": exclusions(frame),
        "classes": {str(name): row for name, row in counts.to_dict("index").items()},
        "same_content_other_label": _conflicts(manifest.items),
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
    pair_splits = [f"{split[pair.a]}-{split[pair.b]}" for pair in near]
    names, counts = np.unique(pair_splits, return_counts=True)
    searched_rows = judged(items, sides)
    searched = set(chosen(items, np.concatenate([*searched_rows.values()]), "id")["id"])
    touched = [side for name, side in split.items() if side == "train" or name in searched]
    return {
        "pairs": len(near),
        "search_stopped": len(near) >= MAX_PAIRS,
        "by_splits": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "items": {name: touched.count(name) for name in SPLITS[:3]},
        "searched": {name: len(rows) for name, rows in searched_rows.items()},
        "examples": [
            {
                "a": pair.a,
                "a_split": split[pair.a],
                "b": pair.b,
                "b_split": split[pair.b],
                "rms": pair.rms,
            }
            for pair in near[:EXAMPLES]
        ],
    }


def _sides_of(items: Items, sides: pd.Series, ids: set[str]) -> dict[str, str]:
    sides_by_id: dict[str, str] = {}
    for rows, part in parts(items, "id") if ids else ():
        requested = part["id"].isin(ids).to_numpy()
        sides_by_id |= dict(zip(part["id"][requested], sides.iloc[rows][requested], strict=True))
    return sides_by_id
