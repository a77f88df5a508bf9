import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from tasks.data.expectation_suite import ValidationReport, refuse, validate
from transfer.core.errors import DataRefusedError
from transfer.data.manifest import Manifest, columns
from transfer.data.quality.checks import ScannedDataset
from transfer.data.quality.thresholds import of_modality
from transfer.data.splits.split import NAMES

QualitySettings = of_modality("image")

COLUMNS = columns("image")

PLAIN = {"group": "", "given_split": "", "mode": "L", "format": "PNG"}
PLAIN |= {"width": 8, "height": 8, "mean": 100.0, "std": 10.0}
NEAR = {
    "items": {"train": 1, "val": 0, "test": 0},
    "searched": {"val": 3, "test": 3},
    "examples": [],
}


def dataset(name, *, per_class=6, classes=("cat", "dog"), changes=None, drop=(), **other):
    """A valid dataset, except for ``changes``: {row: {column: value}}."""
    rows = [
        PLAIN
        | {
            "id": f"{name}{i}.png",
            "label": i % len(classes),
            "content": f"{name} {i}",
            "sha256": f"bytes of {name} {i}",
        }
        for i in range(per_class * len(classes))
    ]
    for row, change in (changes or {}).items():
        rows[row] |= change
    rows = [row for i, row in enumerate(rows) if i not in drop]
    items = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    sides = other.pop("sides", ["train", "test", "train", "val"] * len(items))
    frame = pd.DataFrame({"split": pd.Categorical(sides[: len(items)], NAMES)})
    manifest = Manifest(name, "image", tuple(classes), items)
    return ScannedDataset(manifest, other.pop("rejects", []), other.pop("split", frame))


def checked(out, *, source=None, target=None, near=NEAR, **thresholds):
    return validate(
        source or dataset("s"),
        target or dataset("t"),
        settings=QualitySettings(**thresholds),
        out=out,
        near=near,
    )


def rejects(n):
    return [{"path": f"bad{i}.png", "reason": "truncated", "detail": ""} for i in range(n)]


def test_valid_datasets_pass_every_expectation(tmp_path):
    report = checked(tmp_path)
    assert report.passed
    assert all(row.passed and not row.examples for row in report.rows)
    assert report.not_reached == []
    assert len({(r.dataset, r.what, r.column, r.setting) for r in report.rows}) == len(report.rows)
    assert ValidationReport.load(tmp_path) == report
    refuse(report)


def changed(column, value, row=3):
    return {"target": dataset("t", changes={row: {column: value}})}


FAILING = {
    "rejects": (
        {"source": dataset("s", rejects=rejects(2))},
        ("source s", "reason", "max_reject_share", "2 of 14 fail (14.29%)"),
        ["bad0.png (truncated)", "bad1.png (truncated)"],
    ),
    "rows": (
        {"target": dataset("t", drop=range(9), sides=["train"] * 3), "min_items_per_class": 1},
        ("target t", "items", "min_items", "3"),
        [],
    ),
    "classes": (
        {"source": dataset("s", classes=["cat"], per_class=12)},
        ("source s", "", "min_classes", "1"),
        [],
    ),
    "class names": (
        {"target": dataset("t", classes=["cat", "cat"])},
        ("target t", "class", "", "2 of 2 fail (100.00%)"),
        ["cat", "cat"],
    ),
    "class size": (
        {"target": dataset("t", drop=[1, 3])},
        ("target t", "items", "min_items_per_class", "1 of 2 fail (50.00%)"),
        ["dog (4)"],
    ),
    "imbalance": (
        {"target": dataset("t", drop=[1]), "max_imbalance": 1.1},
        ("target t", "times_fewer", "max_imbalance", "1 of 2 fail (50.00%)"),
        ["dog (1.2)"],
    ),
    "unique ids": (
        changed("id", "t0.png"),
        ("target t", "same_id", "", "1 of 12 fail (8.33%)"),
        ["t0.png (t0.png)"],
    ),
    "labels": (
        changed("label", 2),
        ("target t", "label", "", "1 of 12 fail (8.33%)"),
        ["t3.png (2)"],
    ),
    "given splits": (
        changed("given_split", "holdout"),
        ("target t", "given_split", "", "1 of 12 fail (8.33%)"),
        ["t3.png (holdout)"],
    ),
    "narrow": (
        changed("width", 3),
        ("target t", "width", "min_side, max_side", "1 of 12 fail (8.33%)"),
        ["t3.png (3)"],
    ),
    "high": (
        changed("height", 10_001),
        ("target t", "height", "min_side, max_side", "1 of 12 fail (8.33%)"),
        ["t3.png (10001)"],
    ),
    "modes": (
        {"modes": ["RGB"]},
        ("source s", "mode", "modes", "12 of 12 fail (100.00%)"),
        [f"s{i}.png (L)" for i in range(5)],
    ),
    "formats": (
        changed("format", "PSD"),
        ("target t", "format", "formats", "1 of 12 fail (8.33%)"),
        ["t3.png (PSD)"],
    ),
    "empty images": (
        changed("std", 0.5),
        ("target t", "std", "max_empty_share", "1 of 12 fail (8.33%)"),
        ["t3.png (0.5)"],
    ),
    "duplicates": (
        changed("content", "t 1") | {"max_duplicate_share": 0.08, "max_cross_split_duplicates": 2},
        ("target t", "copy_of", "max_duplicate_share", "1 of 12 fail (8.33%)"),
        ["t3.png (t1.png)"],
    ),
    "conflicts": (
        changed("content", "t 4") | {"max_cross_split_duplicates": 2},
        ("target t", "other_label", "max_conflict_share", "2 of 12 fail (16.67%)"),
        ["t3.png (cat)", "t4.png (dog)"],
    ),
    "leaks": (
        {"target": dataset("t", changes={i: {"group": "g"} for i in (1, 3)})},
        ("target t", "elsewhere", "max_cross_split_duplicates", "2 of 12 fail (16.67%)"),
        ["t1.png (val)", "t3.png (test)"],
    ),
    "given away": (
        {"source": dataset("s", changes={0: {"content": "t 1"}})},
        ("source s", "held_out", "", "1 of 12 fail (8.33%)"),
        ["s0.png (test)"],
    ),
    "relation": (
        {"source": dataset("s", classes=("fox", "owl")), "relations": ["same", "overlap"]},
        ("source and target", "relation", "relations", "1 of 1 fail (100.00%)"),
        ["s to t (disjoint)"],
    ),
    "near-duplicates": (
        {"near": NEAR | {"items": {"train": 2, "val": 0, "test": 2},
                  "examples": [{"a": "t1.png", "b": "t0.png"}]}},
        ("source and target", "near_share", "max_near_duplicate_share", "0.3333"),
        ["t1.png and t0.png"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILING)
def test_each_threshold_refuses_values_beyond_it(tmp_path, failure):
    arguments, expected, examples = FAILING[failure]
    report = checked(tmp_path, **arguments)
    failures = {(r.dataset, r.column, r.setting, r.found): r.examples for r in report.failures}
    assert failures.get(expected) == examples
    if failure not in {"class names", "unique ids", "modes"}:  # these break more than one
        assert len(failures) == 1
    with pytest.raises(DataRefusedError, match=r"params\.yaml under validate:"):
        refuse(report)


def test_values_exactly_at_a_limit_pass(tmp_path):
    changes = {i: {"content": f"t {i - 4}", "std": 0.0} for i in (4, 5, 6)}
    target = dataset("t", changes=changes, rejects=rejects(3))
    shares = {"max_empty_share": 0.25, "max_duplicate_share": 0.25, "max_reject_share": 0.2}
    assert checked(tmp_path, target=target, min_items_per_class=6, min_items=12, **shares).passed


def test_near_duplicates_warn_before_they_refuse(tmp_path):
    near = {
        "items": {"train": 1, "val": 0, "test": 1},
        "searched": NEAR["searched"],
        "examples": [],
    }
    report = checked(tmp_path, near=near)
    assert report.passed
    assert [(r.setting, r.found) for r in report.warnings] == [
        ("warn_near_duplicate_share", "0.1667")
    ]


def test_a_target_that_the_source_repeats_in_training_is_noted(tmp_path):
    report = checked(tmp_path, source=dataset("s", changes={0: {"content": "t 0"}}))
    assert report.passed
    assert not report.warnings
    noted = [r for r in report.rows if not r.passed]
    assert [(r.severity, r.column, r.examples) for r in noted] == [
        ("info", "in_target", ["s0.png (t0.png)"])
    ]


def test_faults_are_reported_before_there_is_a_split(tmp_path):
    target = dataset("t", drop=[1, 3, 5, 7, 9, 11], classes=("cat", "dog"), split=None)
    report = checked(tmp_path, source=dataset("s", split=None), target=target, near=None)
    assert {r.column for r in report.failures} == {"items"}
    assert {"elsewhere", "held_out", "near_share"}.isdisjoint(r.column for r in report.rows)
    assert [line.split(":")[0] for line in report.not_reached] == [
        "source s",
        "target t",
        "source s",
        "source and target",
    ]


def test_a_dataset_without_items_is_refused_without_a_crash(tmp_path):
    report = checked(tmp_path, target=dataset("t", drop=range(12)), near=None)
    assert {(r.column, r.setting) for r in report.failures} == {
        ("items", "min_items"),
        ("items", "min_items_per_class"),
    }


def test_data_docs_are_one_offline_page_that_runs_nothing_from_the_dataset(tmp_path):
    name = '<script>alert("${x} $y {z}")</script>.png'
    target = dataset("t", changes={i: {"id": name, "mode": "<b>"} for i in (0, 1)})
    checked(tmp_path, target=target)
    page = (tmp_path / "data_docs" / "index.html").read_text()
    assert page.count("pixel modes are accepted") == 4  # ours and GX's, of source and target
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "://" not in page
    assert "default-src 'none'" in page


def test_only_out_is_written_nothing_is_printed_and_a_repeat_is_byte_equal(
    tmp_path, monkeypatch, capfd
):
    elsewhere, first, second = (tmp_path / name for name in ("elsewhere", "first", "second"))
    for folder in (elsewhere, first, second):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    near = {
        "items": {"train": 1, "val": 0, "test": 3},
        "searched": NEAR["searched"],
        "examples": [],
    }
    for out in (first, second):
        checked(out, target=dataset("t", drop=[1, 3]), near=near)
    assert list(elsewhere.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("great_expectations").level == logging.WARNING
    files = {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()}
    assert set(files) == {Path("validation.json"), Path("data_docs/index.html")}
    assert all((second / name).read_bytes() == content for name, content in files.items())


def test_validations_in_two_threads_do_not_mix(tmp_path):
    def job(number):
        out = tmp_path / str(number)
        out.mkdir()
        changes = {i: {"mode": f"mode {number}"} for i in range(number)}
        report = checked(out, target=dataset("t", changes=changes))
        return [example for row in report.failures for example in row.examples]

    with ThreadPoolExecutor(2) as pool:
        examples_by_thread = list(pool.map(job, (1, 2)))
    assert examples_by_thread == [["t0.png (mode 1)"], ["t0.png (mode 2)", "t1.png (mode 2)"]]
