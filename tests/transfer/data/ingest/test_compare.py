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
CONTENTS = "pqrstuv"


def items(where: str) -> st.SearchStrategy[list[Item]]:
    pair = st.tuples(st.sampled_from(CLASSES), st.sampled_from(CONTENTS))
    return st.lists(pair, max_size=8).map(
        lambda pairs: [
            Item(f"{where}/{n}", label, content, f"{n}") for n, (label, content) in enumerate(pairs)
        ]
    )


def outcomes(findings: Findings) -> Counter[str]:
    return Counter(
        [item.id for item in (*findings.added, *findings.corrections)]
        + [entry.path for entry in (*findings.duplicates, *findings.conflicts)]
    )


def afterwards(existing: list[Item], findings: Findings) -> list[tuple[str, str]]:
    """Content and label of every item, after the ingest."""
    new = {old.id: correction.label for old, correction in findings.relabelled}
    removed = {item.id for item in findings.removed}
    kept = [(i.content, new.get(i.id, i.label)) for i in existing if i.id not in removed]
    return sorted(kept + [(item.content, item.label) for item in findings.added])


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_every_file_has_one_outcome(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    findings = compare(existing, delivered, relabel=relabel, replace=replace)
    assert outcomes(findings) == Counter(item.id for item in delivered)
    existing_contents = {item.content for item in existing}
    added = [item.content for item in findings.added]
    assert len(set(added)) == len(added)
    assert not existing_contents & set(added)
    if not relabel:
        assert not findings.relabelled
    if not replace:
        assert not findings.removed


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_the_same_delivery_a_second_time_changes_nothing(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    findings = compare(existing, delivered, relabel=relabel, replace=replace)
    after = [
        Item(f"a/{n}", label, p) for n, (p, label) in enumerate(afterwards(existing, findings))
    ]
    again = compare(after, delivered, relabel=relabel, replace=replace)
    assert again.changes == 0
    assert {c.path for c in again.conflicts} == {c.path for c in findings.conflicts}


@given(items("old"), items("new"))
def test_an_item_gets_the_label_on_which_all_copies_agree(
    existing: list[Item], delivered: list[Item]
) -> None:
    findings = compare(existing, delivered, relabel=True)
    given_labels: dict[str, set[str]] = {}
    for item in delivered:
        given_labels.setdefault(item.content, set()).add(item.label)
    old: dict[str, set[str]] = {}
    for item in existing:
        old.setdefault(item.content, set()).add(item.label)
    new: dict[str, set[str]] = {}
    for content, label in afterwards(existing, findings):
        new.setdefault(content, set()).add(label)
    for content, labels in (old | given_labels).items():
        agreed = given_labels.get(content, set())
        expected = agreed if len(agreed) == 1 else old.get(content, set())
        assert new.get(content, set()) == expected, (content, labels)


@given(items("old"), items("new"), st.booleans(), st.booleans())
def test_the_numbers_of_each_class_add_up(
    existing: list[Item], delivered: list[Item], relabel: bool, replace: bool
) -> None:
    findings = compare(existing, delivered, relabel=relabel, replace=replace)
    classes = incoming.by_class(existing, delivered, findings)
    counted = Counter(label for _, label in afterwards(existing, findings))
    assert {name: change.after for name, change in classes.items() if change.after} == counted


def test_conflicts_name_both_sides() -> None:
    existing = [Item("rose/1.png", "rose", "p"), Item("rose/2.png", "rose", "q")]
    delivered = [
        Item("oak/9.png", "oak", "p"),
        Item("oak/8.png", "oak", "r"),
        Item("tulip/7.png", "tulip", "r"),
    ]
    findings = compare(existing, delivered)
    conflicts = [(c.path, c.label, c.of, c.stands_under) for c in findings.conflicts]
    assert conflicts == [
        ("oak/8.png", "oak", "tulip/7.png", "tulip"),
        ("tulip/7.png", "tulip", "oak/8.png", "oak"),
        ("oak/9.png", "oak", "rose/1.png", "rose"),
    ]
    corrected = compare(existing, delivered, relabel=True)
    assert [(old.id, new.id) for old, new in corrected.relabelled] == [("rose/1.png", "oak/9.png")]
    assert len(corrected.conflicts) == 2


def test_a_class_that_is_not_there_is_named_with_its_neighbour() -> None:
    strange = [Item("rosse/1", "rosse", "p"), Item("Oak/1", "Oak", "q"), Item("x/1", "xyz", "r")]
    details = [r.detail for r in incoming.unknown_classes(strange, CLASSES)]
    assert [" did you mean " in detail for detail in details] == [True, True, False]
    assert "'rose'" in details[0]
    assert "'oak'" in details[1]
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


def test_what_training_will_refuse_afterwards_is_reported() -> None:
    existing = [Item(f"{label}/{n}", label, f"{label}{n}") for label in CLASSES for n in range(6)]
    only = [item for item in existing if item.label != "oak"][:9]
    findings = compare(existing, only, replace=True)
    messages = incoming.concerns(incoming.by_class(existing, only, findings), QualitySettings())
    assert messages == [
        "class 'oak' has no items any more",
        "class 'tulip' has 3 items; training expects 5 (validate.min_items_per_class)",
    ]
