"""Train, validation and test: no leaks, and no item changes side because data was added.

An item's side is a hash of its own picture (or its group) and the seed, or the split that it was
given. Where that puts copies of one picture or members of one group on different sides (files
that came with splits, one picture filed under two groups), the items on the lower side are
excluded: test outranks val, val outranks train. Moving them instead would be simpler and wrong:
a copy that arrives tomorrow would drag an item across that a model has been trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from transfer import coverage, duplicates
from transfer.errors import DataRefusedError, SettingsError
from transfer.sample import Manifest
from transfer.section import Section
from transfer.sides import SIDES, TEST, TRAIN, VAL, fraction, highest, keys, ranks

EXCLUDED = "excluded"
COLUMNS = ["id", "split", "labelled", "reason"]


class SplitSettings(Section):
    """How a dataset is divided. Shares are expectations: each item is drawn by its own hash."""

    seed: int = 0
    """Another seed is another division; keep it, or test items become training items."""
    val: float = Field(0.1, ge=0, lt=1)
    """Share of items for validation, 0 to 1. Changing it leaves the test items as they are."""
    test: float = Field(0.4, ge=0, lt=1)
    """Share of items for the final test, 0 to 1."""

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
    """Divide a dataset and choose the items whose labels may be trained on.

    Args:
        labels_per_class: at most this many labelled items a class, without copies and from as many
            groups as there are; all if None. A class that has fewer gives all it has.
        merge_val: validation items may be trained on too (cross-validation selects); their
            split stays ``val``.

    Returns:
        Columns ``id``, ``split``, ``labelled`` and ``reason``, in the manifest's order.

    Raises:
        DataRefusedError: a given split is not one of train, val, test.
        SettingsError: labels_per_class is below 0.
    """
    if labels_per_class is not None and labels_per_class < 0:
        raise SettingsError(f"labels_per_class is {labels_per_class}; expected 0 or more, or null")
    items = manifest.items
    if unknown := sorted(set(items["given_split"]) - {"", *SIDES}):
        raise DataRefusedError(
            f"dataset {manifest.name}: the `split` column holds {', '.join(map(repr, unknown))}; "
            "expected train, val, test or nothing: correct it in the manifest file"
        )
    rank = ranks(items["given_split"], keys(items), settings.seed, settings.val, settings.test)
    sets = duplicates.linked_sets(items)
    top = highest(rank, sets)
    names = np.array(SIDES, dtype=object)[rank]
    frame = pd.DataFrame({"id": items["id"].to_numpy(), "split": names, "labelled": False})
    frame["reason"] = _reasons(items, rank, top)
    frame.loc[rank < top, "split"] = EXCLUDED
    trainable = (rank == top) & (rank <= (VAL if merge_val else TRAIN))
    frame["labelled"] = _capped(items, sets, trainable, settings.seed, labels_per_class)
    return frame.astype({"id": "str", "split": "str", "reason": "str"})


def _reasons(items: pd.DataFrame, rank: np.ndarray, top: np.ndarray) -> np.ndarray:
    reasons = np.full(len(rank), "", dtype=object)
    shared = {name: highest(rank, codes) for name, codes in duplicates.links(items).items()}
    copy = (shared["pixels"] == top) | (shared["sha256"] == top)
    for index in (VAL, TEST):
        out, name = (rank < top) & (top == index), SIDES[index]
        reasons[out] = f"linked_to_{name}"  # by a chain: a member of its group has a copy there
        reasons[out & (shared["group"] == index)] = f"group_in_{name}"
        reasons[out & copy] = f"copy_of_{name}_item"
    return reasons


def _capped(
    items: pd.DataFrame, sets: np.ndarray, pool: np.ndarray, seed: int, cap: int | None
) -> np.ndarray:
    """Keep ``cap`` items of each class: one of each linked set, then a second one, and so on.

    Those with the smallest hash of their picture come first, and a copy is not taken again.
    """
    if cap is None:
        return pool
    rows = items.loc[pool, ["id", "label", "pixels"]].assign(
        file=duplicates.links(items)["sha256"][pool], set=sets[pool], row=np.flatnonzero(pool)
    )
    rows["u"] = [fraction(seed, f"label:{pixels}") for pixels in rows["pixels"]]
    once = rows.sort_values(["u", "id"]).drop_duplicates("pixels").drop_duplicates("file")
    once["turn"] = once.groupby(["label", "set"]).cumcount()
    kept = np.zeros(len(items), dtype=bool)
    kept[once.sort_values(["turn", "u", "id"]).groupby("label").head(cap)["row"]] = True
    return kept


def leave_out(
    frame: pd.DataFrame,
    source: Manifest,
    target: Manifest,
    target_frame: pd.DataFrame,
    *,
    labelled: bool,
) -> pd.DataFrame:
    """Exclude the source items whose file or picture equals a held-out item of the target.

    Args:
        frame: the split of the source.
        target_frame: the split of the target, rows as in its manifest.
        labelled: also leave out what equals a labelled target item: cross-validation holds
            each of them out in turn, and a pretrained body would have seen it.

    Returns:
        A copy of ``frame``; such items are ``excluded``, for the reason ``equals_target_test``,
        ``equals_target_val`` or ``equals_target_labelled``, which replaces any earlier one.
    """
    frame, held_out = frame.copy(), target_frame["split"].to_numpy()
    groups = {"labelled": target_frame["labelled"].to_numpy() & labelled}
    groups |= {name: held_out == name for name in ("val", "test")}
    for name, rows in groups.items():
        equal = _equal_to(source.items, target.items[rows])
        frame.loc[equal, "split"] = EXCLUDED
        frame.loc[equal, "labelled"] = False
        frame.loc[equal, "reason"] = f"equals_target_{name}"
    return frame


def _equal_to(items: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    files = set(duplicates.file_hashes(others)) - {""}
    same_file = duplicates.file_hashes(items).isin(files)
    return (same_file | items["pixels"].isin(set(others["pixels"]))).to_numpy()


def check_coverage(
    manifest: Manifest,
    frame: pd.DataFrame,
    settings: SplitSettings,
    *,
    folds: int,
    labels_per_class: int | None,
    merge_val: bool,
) -> None:
    """Refuse a split that cannot train, choose and judge every class.

    Args:
        frame: what `split` gave for the other arguments.
        folds: of the cross-validation; 0 when the validation split selects.

    Raises:
        DataRefusedError: a class lacks a test item, or labelled items for each fold, or a
            validation item when folds is 0. It names each class and what would help.
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
    if nought := [name for name, share in drawn.items() if not share and (short[name] < 1).any()]:
        ways += [f"raise split.{name} (now 0)" for name in nought]
    else:
        seed = _covering_seed(manifest, settings, folds, labels_per_class, merge_val)
        ways.append(
            f"no split.seed in 0..{coverage.SEEDS - 1} covers every class"
            if seed is None
            else f"or set split.seed={seed}, which covers every class today"
        )
    raise DataRefusedError(coverage.refusal(manifest.name, short, frame, folds=folds, ways=ways))


def _covering_seed(
    manifest: Manifest, settings: SplitSettings, folds: int, cap: int | None, merge_val: bool
) -> int | None:
    def proven(seed: int) -> bool:
        tried = settings.model_copy(update={"seed": seed})
        frame = split(manifest, tried, labels_per_class=cap, merge_val=merge_val)
        table = coverage.table(manifest, frame)
        return coverage.lacking(table, folds, unlabelled=cap == 0).empty

    if cap is not None and cap < folds:
        return None
    shares = {"val": settings.val, "test": settings.test}
    seeds = coverage.candidate_seeds(manifest, **shares, folds=folds, merge_val=merge_val)
    return next(filter(proven, seeds), None)


def save(
    folder: Path,
    manifest: Manifest,
    frame: pd.DataFrame,
    near: Sequence[duplicates.NearPair],
) -> None:
    """Write ``split.parquet`` and its summary ``split.json`` into an existing folder."""
    frame.to_parquet(folder / "split.parquet", index=False)
    text = json.dumps(coverage.summary(manifest, frame, near), ensure_ascii=False, indent=1)
    (folder / "split.json").write_text(text)


def load(folder: Path) -> pd.DataFrame:
    """Read the table that `save` wrote.

    Raises:
        DataRefusedError: the file is missing, or lacks a column.
    """
    try:
        return pd.read_parquet(folder / "split.parquet", columns=COLUMNS)
    except (OSError, ValueError) as error:
        raise DataRefusedError(f"no readable split in {folder} ({error}); split again") from error
