"""What a delivery means for a dataset, against a second, slower calculation."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.data.ingest import compare as incoming
from transfer.data.ingest.compare import Findings, Item, compare
from transfer.data.quality.thresholds import of_modality

QualitySettings = of_modality("image")

CLASSES = ("oak", "rose", "tulip")
PICTURES = "pqrstuv"


def items(where: str) -> st.SearchStrategy[list[Item]]:
    pair = st.tuples(st.sampled_from(CLASSES), st.sampled_from(PICTURES))
    return st.lists(pair, max_size=8).map(
        lambda pairs: [
            Item(f"{where}/{n}", label, pixels, f"{n}") for n, (label, pixels) in enumerate(pairs)
        ]
    )


def fates(found: Findings) -> Counter[str]:
    return Counter(
        [item.id for item in (*found.added, *found.corrections)]
        + [one.path for one in (*found.duplicates, *found.conflicts)]
    )


def afterwards(existing: list[Item], found: Findings) -> list[tuple[str, str]]:
    """Picture and label of every item, after."""
    new = {old.id: right.label for old, right in found.relabelled}
    gone = {item.id for item in found.removed}
    kept = [(i.pixels, new.get(i.id, i.label)) for i in existing if i.id not in gone]
    return sorted(kept + [(item.pixels, item.label) for item in found.added])


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_every_file_meets_one_fate(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    found = compare(existing, delivered, relabel=relabel, replace=replace)
    assert fates(found) == Counter(item.id for item in delivered)
    known = {item.pixels for item in existing}
    added = [item.pixels for item in found.added]
    assert len(set(added)) == len(added)
    assert not known & set(added)
    if not relabel:
        assert not found.relabelled
    if not replace:
        assert not found.removed


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_the_same_delivery_a_second_time_changes_nothing(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    found = compare(existing, delivered, relabel=relabel, replace=replace)
    after = [Item(f"a/{n}", label, p) for n, (p, label) in enumerate(afterwards(existing, found))]
    again = compare(after, delivered, relabel=relabel, replace=replace)
    assert again.changes == 0
    assert {c.path for c in again.conflicts} == {c.path for c in found.conflicts}


@given(items("old"), items("new"))
def test_a_picture_gets_the_label_that_all_agree_on(
    existing: list[Item], delivered: list[Item]
) -> None:
    found = compare(existing, delivered, relabel=True)
    given_labels: dict[str, set[str]] = {}
    for item in delivered:
        given_labels.setdefault(item.pixels, set()).add(item.label)
    old: dict[str, set[str]] = {}
    for item in existing:
        old.setdefault(item.pixels, set()).add(item.label)
    new: dict[str, set[str]] = {}
    for pixels, label in afterwards(existing, found):
        new.setdefault(pixels, set()).add(label)
    for pixels, labels in (old | given_labels).items():
        agreed = given_labels.get(pixels, set())
        expected = agreed if len(agreed) == 1 else old.get(pixels, set())
        assert new.get(pixels, set()) == expected, (pixels, labels)


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_the_numbers_of_each_class_add_up(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    found = compare(existing, delivered, relabel=relabel, replace=replace)
    classes = incoming.by_class(existing, delivered, found)
    counted = Counter(label for _, label in afterwards(existing, found))
    assert {name: one.after for name, one in classes.items() if one.after} == counted


def test_conflicts_name_both_sides() -> None:
    existing = [Item("rose/1.png", "rose", "p"), Item("rose/2.png", "rose", "q")]
    delivered = [
        Item("oak/9.png", "oak", "p"),
        Item("oak/8.png", "oak", "r"),
        Item("tulip/7.png", "tulip", "r"),
    ]
    found = compare(existing, delivered)
    told = [(c.path, c.label, c.of, c.stands_under) for c in found.conflicts]
    assert told == [
        ("oak/8.png", "oak", "tulip/7.png", "tulip"),
        ("tulip/7.png", "tulip", "oak/8.png", "oak"),
        ("oak/9.png", "oak", "rose/1.png", "rose"),
    ]
    corrected = compare(existing, delivered, relabel=True)
    assert [(old.id, new.id) for old, new in corrected.relabelled] == [("rose/1.png", "oak/9.png")]
    assert len(corrected.conflicts) == 2


def test_a_class_that_is_not_there_is_named_with_its_neighbour() -> None:
    strange = [Item("rosse/1", "rosse", "p"), Item("Oak/1", "Oak", "q"), Item("x/1", "xyz", "r")]
    told = [r.detail for r in incoming.unknown_classes(strange, CLASSES)]
    assert [" did you mean " in one for one in told] == [True, True, False]
    assert "'rose'" in told[0]
    assert "'oak'" in told[1]
    assert incoming.unknown_classes([Item("a", "rose", "p")], CLASSES) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 3}, "too_small"),
        ({"height": 10_001}, "too_large"),
        ({"mode": "HSV"}, "wrong_mode"),
        ({"format": "ICO"}, "wrong_format"),
        ({"std": 0.5}, "blank"),
    ],
)
def test_what_training_would_refuse_is_rejected(changes: dict[str, object], reason: str) -> None:
    fit = {"id": "a", "width": 9, "height": 9, "mode": "L", "format": "PNG", "std": 9.0}
    table = pd.DataFrame([fit, fit | {"id": "b"} | changes])
    (reject,) = incoming.unfit(table, QualitySettings(), tiny.MODALITY)
    assert (reject.path, reject.reason) == ("b", reason)


def test_what_training_will_refuse_afterwards_is_told() -> None:
    existing = [Item(f"{label}/{n}", label, f"{label}{n}") for label in CLASSES for n in range(6)]
    only = [item for item in existing if item.label != "oak"][:9]
    found = compare(existing, only, replace=True)
    told = incoming.concerns(incoming.by_class(existing, only, found), QualitySettings())
    assert told == [
        "class 'oak' has no items any more",
        "class 'tulip' has 3 items; training expects 5 (validate.min_items_per_class)",
    ]
