"""Keyword arguments as a tree of settings."""

import pytest

from crosstrain.fitting import _tree, merged


@pytest.mark.parametrize(
    "settings",
    [
        {"adapt": {"seeds": [0], "training": {"steps": 3}}},
        {"adapt__seeds": [0], "adapt__training__steps": 3},
        {"adapt": {"seeds": [0]}, "adapt__training": {"steps": 3}},
    ],
)
def test_sections_are_mappings_or_joined_by_underscores(settings):
    assert _tree(settings) == {"adapt": {"seeds": [0], "training": {"steps": 3}}}


def test_the_upper_tree_wins_and_neither_changes():
    lower, upper = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "d": {"e": 4}}
    assert merged(lower, upper) == {"a": {"b": 9, "c": 2}, "d": {"e": 4}}
    assert lower == {"a": {"b": 1, "c": 2}, "d": 3} and upper["a"] == {"b": 9}
