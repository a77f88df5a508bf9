"""Expectations on a source and a target, as data; `tasks.data.expectation_suite` checks them on the
tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pandas as pd

from transfer.data.quality import checks
from transfer.data.quality.checks import ScannedDataset
from transfer.data.quality.thresholds import QualitySettings
from transfer.modalities import lookup
from transfer.modalities.interface import ColumnRule

IN_SET, BETWEEN = "ExpectColumnValuesToBeInSet", "ExpectColumnValuesToBeBetween"
SPLITS = ["", "train", "val", "test"]
LEAKS = "no item has a copy or a member of its group in another split"
NO_TARGET_LEAK = "no item in use equals a val or test item of the target"
NEAR = "few val and test items have a near-duplicate in another split"


@dataclass(frozen=True)
class Expectation:
    """One statement about a table, in words and as a Great Expectations class."""

    what: str  # the statement
    class_name: str  # class in great_expectations.expectations
    arguments: dict[str, Any]
    expected: str  # the threshold, for people
    setting: str = ""  # the fields of QualitySettings that move it; '' where none does
    severity: Literal["critical", "warning", "info"] = "critical"
    examples: list[str] = field(default_factory=list)  # where the rows are not examples themselves


@dataclass(frozen=True)
class Suite:
    """A table and the expectations on it; a table in parts only has expectations on single rows."""

    dataset: str
    title: str
    tables: Callable[[], Iterable[pd.DataFrame]]  # the parts
    key: str  # the column that names a row
    expectations: list[Expectation]


def suites(
    source: ScannedDataset,
    target: ScannedDataset,
    settings: QualitySettings,
    near: Mapping[str, Any] | None,
) -> list[Suite]:
    """All expectations that can be checked with the available splits and near-duplicates.

    Args:
        near: ``near_duplicates`` of the target's split.json; None when they are not known yet.

    Raises:
        DataRefusedError: a split belongs to another manifest.
    """
    all_suites = []
    for role, data, other in (("source", source, target), ("target", target, None)):
        name = f"{role} {data.manifest.name}"
        files, classes = checks.file_count(data), [checks.classes_table(data.manifest)]
        readable = _blank("files can be used", "reason", "max_reject_share", settings, files)
        expected = [*_items(settings, data), *_leaks(settings, data, other)]
        all_suites += [
            Suite(name, "files", partial(checks.files_tables, data), "path", [readable]),
            Suite(name, "classes", partial(list, classes), "class", list(_classes(settings))),
            Suite(name, "items", partial(checks.items_tables, data, other), "id", expected),
        ]
    pair = [checks.pair_table(source, target, near)]
    expected = [_among("the source's classes suit the target's", "relation", "relations", settings)]
    expected += [] if near is None else _near(settings, near)
    return [*all_suites, Suite("source and target", "pair", partial(list, pair), "pair", expected)]


def not_reached(
    source: ScannedDataset, target: ScannedDataset, near: Mapping[str, Any] | None
) -> list[str]:
    """Statements that `suites` leaves out, without a split or a search for near-duplicates."""
    left_out = [
        f"{role} {data.manifest.name}: {LEAKS}"
        for role, data in (("source", source), ("target", target))
        if data.split is None
    ]
    if target.split is None:
        left_out.append(f"source {source.manifest.name}: {NO_TARGET_LEAK}")
    return left_out if near is not None else [*left_out, f"source and target: {NEAR}"]


def _classes(settings: QualitySettings) -> Iterator[Expectation]:
    yield _rows("there are classes to tell apart", "min_classes", settings)
    yield _unique("class names are distinct", "class")
    fewest, most = settings.min_items_per_class, settings.max_imbalance
    least = {"column": "items", "min_value": settings.min_items}
    yield Expectation(
        "there are enough items",
        "ExpectColumnSumToBeBetween",
        least,
        f"at least {settings.min_items}",
        "min_items",
    )
    enough = "each class has enough items"
    yield _range(enough, "items", fewest, None, setting="min_items_per_class")
    balanced = "the largest class does not dominate the others"
    yield _range(balanced, "times_fewer", None, most, setting="max_imbalance")


def _items(settings: QualitySettings, data: ScannedDataset) -> Iterator[Expectation]:
    rows, last = len(data.manifest), max(len(data.manifest.class_names) - 1, 0)
    yield Expectation(
        "each item has an id", "ExpectColumnValuesToNotBeNull", {"column": "id"}, "none lacks one"
    )
    distinct = {"column": "same_id", "value_set": [""]}
    yield Expectation("ids are distinct", IN_SET, distinct, "none twice")
    yield _range("each label names a class", "label", 0, last)
    for rule in lookup.get(data.manifest.modality).rules(settings):
        yield _ruled(rule, settings, rows)
    known = {"column": "given_split", "value_set": SPLITS}
    yield Expectation("given splits are known", IN_SET, known, "train, val, test or none")
    yield _blank("items do not repeat", "copy_of", "max_duplicate_share", settings, rows)
    one_label = "an item has one label"
    yield _blank(one_label, "other_label", "max_conflict_share", settings, rows)


def _ruled(rule: ColumnRule, settings: QualitySettings, rows: int) -> Expectation:
    """What a modality expects of one of its columns."""
    if rule.among is not None:
        arguments = {"column": rule.column, "value_set": list(rule.among)}
        expected = f"one of {', '.join(rule.among)}"
        return Expectation(rule.what, IN_SET, arguments, expected, rule.setting)
    if not rule.tolerated:
        bounds = {"setting": rule.setting, "unit": rule.unit}
        return _range(rule.what, rule.column, rule.low, rule.high, **bounds)
    mostly, limit = _tolerance(rule.tolerated, settings, rows)
    ends = {"min_value": rule.low, "max_value": rule.high}
    given = {name: end for name, end in ends.items() if end is not None}
    bounded: dict[str, Any] = {"column": rule.column, **given, "mostly": mostly}
    return Expectation(rule.what, BETWEEN, bounded, limit, rule.tolerated)


def _leaks(
    settings: QualitySettings, data: ScannedDataset, target: ScannedDataset | None
) -> Iterator[Expectation]:
    rows = len(data.manifest)
    if data.split is not None:
        yield _blank(LEAKS, "elsewhere", "max_cross_split_duplicates", settings, rows)
    if target is None:
        return
    if target.split is not None:
        away = {"column": "held_out", "value_set": [""]}
        yield Expectation(NO_TARGET_LEAK, IN_SET, away, "none")
    shared = {"column": "in_target", "value_set": [""]}
    no_copy = "no item equals one of the target"
    yield Expectation(no_copy, IN_SET, shared, "none; for information", severity="info")


def _near(settings: QualitySettings, near: Mapping[str, Any]) -> Iterator[Expectation]:
    examples = [f"{x['a']} and {x['b']}" for x in near["examples"]]
    levels: tuple[tuple[str, Literal["warning", "critical"]], ...] = (
        ("warn_near_duplicate_share", "warning"),
        ("max_near_duplicate_share", "critical"),
    )
    for setting, severity in levels:
        share = getattr(settings, setting)
        most = {"column": "near_share", "max_value": share}
        limit = f"a share of at most {share:g}"
        class_name = "ExpectColumnMaxToBeBetween"
        yield Expectation(NEAR, class_name, most, limit, setting, severity, examples)


def _rows(what: str, setting: str, settings: QualitySettings) -> Expectation:
    least = getattr(settings, setting)
    class_name, arguments = "ExpectTableRowCountToBeBetween", {"min_value": least}
    return Expectation(what, class_name, arguments, f"at least {least}", setting)


def _unique(what: str, column: str) -> Expectation:
    return Expectation(what, "ExpectColumnValuesToBeUnique", {"column": column}, "none twice")


def _range(
    what: str,
    column: str,
    low: float | None,
    high: float | None,
    *,
    setting: str = "",
    unit: str = "",
) -> Expectation:
    ends = [f"at least {low:g}"] if low is not None else []
    ends += [f"at most {high:g}"] if high is not None else []
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Expectation(what, BETWEEN, arguments, ", ".join(ends) + unit, setting)


def _among(what: str, column: str, setting: str, settings: QualitySettings) -> Expectation:
    known = list(getattr(settings, setting))
    arguments = {"column": column, "value_set": known}
    return Expectation(what, IN_SET, arguments, f"one of {', '.join(known)}", setting)


def _blank(
    what: str, column: str, setting: str, settings: QualitySettings, rows: int
) -> Expectation:
    mostly, limit = _tolerance(setting, settings, rows)
    arguments = {"column": column, "value_set": [""], "mostly": mostly}
    return Expectation(what, IN_SET, arguments, limit, setting)


def _tolerance(setting: str, settings: QualitySettings, rows: int) -> tuple[float, str]:
    """Convert a limit on failing rows, a count or a share, to ``mostly`` and a text.

    ``mostly`` is the quotient that Great Expectations itself computes from a count of rows, so
    that a dataset exactly at the limit passes.
    """
    limit = getattr(settings, setting)
    count, words = limit, f"at most {limit} fail"
    if isinstance(limit, float):
        count, words = int(limit * rows + 1e-9), f"a share of at most {limit:g} fails"
    return (max(rows - count, 0) / rows if rows else 1.0), words
