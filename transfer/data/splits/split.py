"""Train, validation and test split: no leaks, and adding data never moves an item between sides.

The side of an item depends on a hash of its own content (or its group) and the seed, or on its
given split. This can put copies of the same content, or members of the same group, on different
sides, for example when files came with splits or the same content is in two groups. Then the items
on the lower side are excluded: test outranks val, and val outranks train. Moving these items would
be simpler but wrong: a copy that arrives later would move an item on which a model was trained.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from transfer.core.config import Section
from transfer.core.errors import DataRefusedError, SettingsError
from transfer.data.manifest import Manifest
from transfer.data.splits import coverage, duplicates
from transfer.data.splits.assignment import SIDES, TEST, TRAIN, VAL, fraction, highest, keys, ranks
from transfer.data.storage.table import Items, StoredItems, Writer, chosen, numbers, parts

EXCLUDED = "excluded"
NAMES = (*SIDES, EXCLUDED)
REASONS = (
    "",
    *(f"{why}_{name}" for name in ("val", "test") for why in ("linked_to", "group_in")),
    *(f"copy_of_{name}_item" for name in ("val", "test")),
    *(f"equals_target_{name}" for name in ("labelled", "val", "test")),
)
COLUMNS = {"id": "str", "split": "str", "labelled": "bool", "reason": "str"}
_SPARE = 8  # at first so many times the cap are read; when too few, so many times more


class SplitSettings(Section):
    """How a dataset is split. Shares are expectations: a hash of each item decides its split."""

    seed: int = 0
    """Random seed of the split. Keep it: with another one, test items become training items."""
    val: float = Field(0.1, ge=0, lt=1)
    """Share of items for validation, 0 to 1. Changing it does not move test items."""
    test: float = Field(0.2, ge=0, lt=1)
    """Share of items for the test split, 0 to 1."""

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> "SplitSettings":
        if self.val + self.test >= 1:
            raise ValueError(
                f"val + test is {self.val + self.test:g}; expected less than 1, the rest is train"
            )
        return self


def split(
    manifest: Manifest,
    settings: SplitSettings,
    *,
    labels_per_class: int | None,
    merge_val: bool,
) -> pd.DataFrame:
    """Split a dataset and choose the items whose labels may be used for training.

    Args:
        labels_per_class: largest number of labelled items per class, without copies and from as
            many groups as possible; None: all. A class with fewer items uses all of them.
        merge_val: validation items may be used for training too (cross-validation selects);
            their split stays ``val``.

    Returns:
        Columns ``split``, ``labelled`` and ``reason``, rows in the manifest's order.

    Raises:
        DataRefusedError: a given split is not one of train, val, test.
        SettingsError: labels_per_class is below 0.
    """
    if labels_per_class is not None and labels_per_class < 0:
        raise SettingsError(f"labels_per_class is {labels_per_class}; expected 0 or more, or null")
    items = manifest.items
    rank = _ranks(manifest, settings)
    sets = duplicates.linked_sets(items)
    top = highest(rank, sets)
    frame = pd.DataFrame({"split": _named(rank, NAMES), "labelled": False})
    frame["reason"] = _reasons(items, rank, top, sets)
    frame.loc[rank < top, "split"] = EXCLUDED
    trainable = (rank == top) & (rank <= (VAL if merge_val else TRAIN))
    frame["labelled"] = _limit_labels(items, sets, trainable, settings.seed, labels_per_class)
    return frame


def _named(codes: NDArray[np.int8], names: Sequence[str]) -> Any:
    return pd.Categorical.from_codes(codes, pd.Index(names))


def _ranks(manifest: Manifest, settings: SplitSettings) -> NDArray[np.int8]:
    """Side of each item without regard to linked items, as an index into SIDES."""
    rank = np.empty(len(manifest), np.int8)
    unknown: set[str] = set()
    for rows, part in parts(manifest.items, "given_split", "group", "content"):
        given = part["given_split"]
        unknown |= set(given) - {"", *SIDES}
        if not unknown:
            drawn_by = keys(part)
            rank[rows] = ranks(given, drawn_by, settings.seed, settings.val, settings.test)
    if unknown:
        raise DataRefusedError(
            f"dataset {manifest.name}: the `split` column holds "
            f"{', '.join(map(repr, sorted(unknown)))}; "
            "expected train, val, test or nothing: correct it in the manifest file"
        )
    return rank


def _reasons(
    items: Items, rank: NDArray[np.int8], top: NDArray[np.int8], sets: NDArray[np.int32]
) -> pd.Categorical:
    """Reason of each excluded item. Only items of sets that are on several sides are read."""
    codes = np.zeros(len(rank), np.int8)
    divided_rows = np.flatnonzero(duplicates.among(sets, np.unique(sets[rank < top])))
    if len(divided_rows):
        linked = chosen(items, divided_rows, "content", "sha256", "group", "format")
        codes[divided_rows] = _reason_codes(linked, rank[divided_rows], top[divided_rows])
    return _named(codes, REASONS)


def _reason_codes(
    items: pd.DataFrame, rank: NDArray[np.int8], top: NDArray[np.int8]
) -> NDArray[np.int8]:
    reasons = np.full(len(rank), REASONS.index(""), np.int8)
    shared = {name: highest(rank, codes) for name, codes in duplicates.links(items).items()}
    copy = (shared["content"] == top) | (shared["sha256"] == top)
    for index in (VAL, TEST):
        out, name = (rank < top) & (top == index), SIDES[index]
        reasons[out] = REASONS.index(f"linked_to_{name}")  # its group has a copy there
        reasons[out & (shared["group"] == index)] = REASONS.index(f"group_in_{name}")
        reasons[out & copy] = REASONS.index(f"copy_of_{name}_item")
    return reasons


def _limit_labels(
    items: Items, sets: NDArray[np.int32], pool: NDArray[np.bool_], seed: int, cap: int | None
) -> NDArray[np.bool_]:
    """Keep ``cap`` items of each class: one item of each linked set, then a second, and so on.

    Items with the smallest hash of their content come first, and copies are skipped. So only items
    with small hashes are read, unless a class has too few sets.
    """
    if cap is None:
        return pool
    label, drawn = numbers(items, "label"), _label_fractions(items, seed)
    sizes = np.bincount(label[pool], minlength=int(label.max(initial=0)) + 1)
    below = np.minimum(1, _SPARE * cap / np.maximum(sizes, 1))
    while True:
        candidate_sets = np.unique(sets[pool & (drawn < below[label])])
        rows = np.flatnonzero(pool & duplicates.among(sets, candidate_sets))
        ordered = (
            _in_order_of_choice(items, rows, drawn[rows], sets[rows]).groupby("label").head(cap)
        )
        certain = ordered[(ordered["turn"] == 0) & (ordered["u"] < below[ordered["label"]])]
        short = np.bincount(certain["label"], minlength=len(below)) < cap
        if not (short & (below < 1)).any():
            kept = np.zeros(len(items), dtype=bool)
            kept[ordered.index] = True
            return kept
        below[short] = np.minimum(1, below[short] * _SPARE)


def _label_fractions(items: Items, seed: int) -> NDArray[np.float64]:
    fractions = np.empty(len(items))
    for rows, part in parts(items, "content"):
        fractions[rows] = [fraction(seed, f"label:{content}") for content in part["content"]]
    return fractions


def _in_order_of_choice(
    items: Items, rows: NDArray[np.int64], u: NDArray[np.float64], sets: NDArray[np.int32]
) -> pd.DataFrame:
    """Items in the order in which they are chosen, without copies; the index is the row."""
    candidates = chosen(items, rows, "id", "label", "content", "sha256", "format")
    candidates = candidates.assign(
        u=u, set=sets, file=duplicates.codes(duplicates.file_hashes(candidates))
    )
    unique = candidates.sort_values(["u", "id"]).drop_duplicates("content").drop_duplicates("file")
    unique = unique.assign(turn=unique.groupby(["label", "set"]).cumcount())
    return unique.sort_values(["turn", "u", "id"])


def leave_out(
    frame: pd.DataFrame,
    source: Manifest,
    target: Manifest,
    target_frame: pd.DataFrame,
    *,
    labelled: bool,
) -> pd.DataFrame:
    """Exclude the source items whose file or content equals a held-out item of the target.

    Args:
        frame: the split of the source.
        target_frame: the split of the target, rows as in its manifest.
        labelled: also exclude items that equal a labelled target item: cross-validation holds
            each labelled item out in turn, and a pretrained backbone must not have seen it.

    Returns:
        A copy of ``frame``; such items are ``excluded`` with the reason ``equals_target_test``,
        ``equals_target_val`` or ``equals_target_labelled``, which replaces an earlier reason.
    """
    frame, held_out = frame.copy(), target_frame["split"]
    frame["reason"] = frame["reason"].cat.set_categories(REASONS)
    groups = {"labelled": target_frame["labelled"] & labelled}
    groups |= {name: held_out == name for name in ("val", "test")}
    for name, rows in groups.items():
        equal = _equal_to(source.items, target.items, rows.to_numpy(bool))
        frame.loc[equal, "split"] = EXCLUDED
        frame.loc[equal, "labelled"] = False
        frame.loc[equal, "reason"] = f"equals_target_{name}"
    return frame


def _equal_to(items: Items, others: Items, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    equal = np.zeros(len(items), bool)
    for column in ("content", "sha256"):
        known = np.unique(duplicates.hashes(others, column)[rows])
        values = duplicates.hashes(items, column)
        equal |= duplicates.among(values, known) & (values != duplicates.BLANK)
    return equal


def check_coverage(
    manifest: Manifest,
    frame: pd.DataFrame,
    settings: SplitSettings,
    *,
    folds: int,
    labels_per_class: int | None,
    merge_val: bool,
) -> None:
    """Refuse a split with too few items of a class for training, selection or evaluation.

    Args:
        frame: the result of `split` for the other arguments.
        folds: number of cross-validation folds; 0 when the validation split selects.

    Raises:
        DataRefusedError: a class lacks a test item, or labelled items for each fold, or a
            validation item when folds is 0. The message names each class and possible solutions.
    """
    unlabelled = labels_per_class == 0
    short = coverage.lacking(coverage.table(manifest, frame), folds, unlabelled=unlabelled)
    if short.empty:
        return
    ways = ["Add items of these classes", "give a `split` column"]
    if folds > 1:
        ways.append(f"lower adapt.folds (now {folds})")
    if labels_per_class is not None and 0 < labels_per_class < folds:
        ways.append(f"raise labels_per_class (now {labels_per_class}) to {folds}")
    drawn = {"test": settings.test} if folds else {"test": settings.test, "val": settings.val}
    if zero_shares := [
        name for name, share in drawn.items() if not share and (short[name] < 1).any()
    ]:
        ways += [f"raise split.{name} (now 0)" for name in zero_shares]
    else:
        seed = _covering_seed(manifest, settings, folds, labels_per_class, merge_val)
        ways.append(
            f"no split.seed in 0..{coverage.SEEDS - 1} covers every class"
            if seed is None
            else f"or set split.seed={seed}, which covers every class in this data"
        )
    raise DataRefusedError(coverage.refusal(manifest.name, short, frame, folds=folds, ways=ways))


def _covering_seed(
    manifest: Manifest, settings: SplitSettings, folds: int, cap: int | None, merge_val: bool
) -> int | None:
    def covers(seed: int) -> bool:
        candidate = settings.model_copy(update={"seed": seed})
        frame = split(manifest, candidate, labels_per_class=cap, merge_val=merge_val)
        table = coverage.table(manifest, frame)
        return coverage.lacking(table, folds, unlabelled=cap == 0).empty

    if cap is not None and cap < folds:
        return None
    shares = {"val": settings.val, "test": settings.test}
    seeds = coverage.candidate_seeds(manifest, **shares, folds=folds, merge_val=merge_val)
    return next(filter(covers, seeds), None)


def save(
    folder: Path,
    manifest: Manifest,
    frame: pd.DataFrame,
    near: Sequence[duplicates.NearPair],
) -> None:
    """Write ``split.parquet`` and its summary ``split.json`` into an existing folder."""
    with Writer(folder / "split.parquet", COLUMNS) as table:
        for rows, part in parts(manifest.items, "id"):
            table.write(frame.iloc[rows].reset_index(drop=True).assign(id=part["id"]))
    text = json.dumps(coverage.summary(manifest, frame, near), ensure_ascii=False, indent=1)
    (folder / "split.json").write_text(text)


def load(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Read the table that `save` wrote, in the form that `split` returns.

    Args:
        manifest: the dataset that was split.

    Raises:
        DataRefusedError: the file is missing, lacks a column, or lists other items.
    """
    try:
        stored = StoredItems(folder / "split.parquet")
        missing = sorted(set(COLUMNS) - set(stored.columns))
    except (OSError, ValueError) as error:
        raise DataRefusedError(f"no readable split in {folder} ({error}); split again") from error
    if missing:
        raise DataRefusedError(f"no readable split in {folder}: it lacks {missing}; split again")
    codes = np.empty((2, len(stored)), np.int8)
    labelled = np.empty(len(stored), bool)
    for rows, part in _aligned(stored, manifest, folder):
        codes[0, rows] = pd.Categorical(part["split"], NAMES).codes
        codes[1, rows] = pd.Categorical(part["reason"], REASONS).codes
        labelled[rows] = part["labelled"]
    split, reason = _named(codes[0], NAMES), _named(codes[1], REASONS)
    return pd.DataFrame({"split": split, "labelled": labelled, "reason": reason})


def _aligned(
    stored: StoredItems, manifest: Manifest, folder: Path
) -> Iterator[tuple[slice, pd.DataFrame]]:
    same = len(stored) == len(manifest)
    both = zip(parts(stored, *COLUMNS), parts(manifest.items, "id"), strict=same)
    for (rows, part), (_, other) in both:
        if same := same and part["id"].equals(other["id"]):
            yield rows, part
    if not same:
        raise DataRefusedError(
            f"the split in {folder} lists other items than the {len(manifest)} of the manifest of "
            f"{manifest.name}; split the dataset again"
        )
