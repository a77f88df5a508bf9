"""Every setting has a row, with a default that is valid and a range that is true."""

import re

import pytest
import yaml

from transfer.core.errors import SettingsError
from transfer.settings.project import Settings, check
from transfer.settings.reference import rows

ROWS = [row for row in rows() if "[" not in row.name]


def at(tree, name):
    for part in name.split("."):
        tree = tree[part]
    return tree


def leaves(tree):
    return sum(leaves(v) if isinstance(v, dict) and v else 1 for v in tree.values())


def test_every_setting_has_one_row_with_its_default():
    told = Settings().model_dump(mode="json", by_alias=True)
    told["methods"] = {name: value for name, value in told["methods"].items() if value}
    assert len(ROWS) == len({row.name for row in ROWS}) == leaves(told)
    for row in ROWS:
        assert yaml.safe_load(row.default) == at(told, row.name), row.name
        assert row.description, row.name


def limits(text):
    """Sign and value of each end of a range."""
    if found := re.search(r"number (-?[\d.e-]+) to (-?[\d.e-]+)", text):
        return [("≥", float(found[1])), ("≤", float(found[2]))]
    return [(sign, float(value)) for sign, value in re.findall(r"([≥≤<>]) (-?[\d.e-]+\d|\d)", text)]


def test_a_number_beyond_an_end_of_its_range_is_refused():
    beyond = {"≥": -1, ">": 0, "≤": 1, "<": 0}
    bounded = [(row, *end) for row in ROWS for end in limits(row.range)]
    assert len(bounded) > 200
    for row, sign, value in bounded:
        assert not accepted(row.name, value + beyond[sign]), row


def accepted(name, value):
    *sections, last = name.split(".")
    tree = {last: int(value) if float(value).is_integer() else value}
    for section in reversed(sections):
        tree = {section: tree}
    try:
        check(tree, "a test")
    except SettingsError:
        return False
    return True


def test_a_prefix_selects_a_section_or_one_setting():
    assert [row.name for row in rows("split")] == ["split.seed", "split.val", "split.test"]
    assert [row.name for row in rows("split.val")] == ["split.val"]
    assert all(row.name.startswith("methods.l2_sp.") for row in rows("methods.l2_sp"))
    assert rows("methods.l2_sp.") == rows("methods.l2_sp")


def test_entries_of_lists_have_rows_too():
    names = {row.name: row for row in rows("promote.rules") + rows("more_sources")}
    assert names["promote.rules[rule=class_recall].margin"].default == "0.05"
    assert names["more_sources[].path"].default == ""
    assert names["more_sources[].split.val"].default == "0.1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("split.val", "number ≥ 0, < 1"),
        ("monitor.interval", "number > 0, < 1"),
        ("adapt.folds", "whole number 0 to 20 or null"),
        ("input.fit", "crop, pad, stretch"),
        ("adapt.seeds", "list of whole numbers"),
        ("monitor.retrain", "true or false"),
        ("source.path", "path"),
    ],
)
def test_a_range_reads_like_a_range(name, expected):
    assert [row.range for row in rows(name)] == [expected]


@pytest.mark.parametrize(
    ("prefix", "near"),
    [
        ("adapt.traning", "did you mean adapt.training"),
        ("bugdet", "did you mean run.budget"),
        ("zzz", "`crosstrain settings` lists them all"),
    ],
)
def test_an_unknown_prefix_is_refused_with_similar_names(prefix, near):
    with pytest.raises(SettingsError, match=f"no setting '{prefix}'") as error:
        rows(prefix)
    assert near in str(error.value)
