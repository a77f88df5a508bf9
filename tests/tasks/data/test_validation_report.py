import json

import pytest

from tasks.data.validation_report import ExpectationRow, ValidationReport, printable, refuse, table
from transfer.core.errors import DataRefusedError

GOOD = ExpectationRow(
    dataset="source mnist",
    what="ids are distinct",
    column="id",
    found="none of 5000 fails",
    expected="none twice",
    passed=True,
    severity="critical",
    setting="",
    expectation="expect_column_values_to_be_unique",
    examples=[],
)


def row(**other):
    return ExpectationRow(**(vars(GOOD) | other))


FAILED = row(
    dataset="target leaves",
    what="pixel modes are accepted",
    column="mode",
    found="2 of 190 fail (1.05%)",
    expected="one of L, RGB",
    passed=False,
    setting="modes",
    examples=["é/a.png (CMYK)", "b.png (P)"],
)
WARNING = row(passed=False, severity="warning")
NOTE = row(passed=False, severity="info")


def test_only_a_critical_failure_refuses():
    report = ValidationReport([GOOD, WARNING, NOTE], [])
    assert (report.passed, report.failures, report.warnings) == (True, [], [WARNING])
    refuse(report)
    report = ValidationReport([GOOD, WARNING, FAILED, NOTE], [])
    assert (report.passed, report.failures) == (False, [FAILED])


def test_a_refusal_shows_the_failures_and_where_the_thresholds_are():
    with pytest.raises(DataRefusedError) as refusal:
        refuse(ValidationReport([GOOD, FAILED, WARNING], []))
    assert refusal.value.exit_code == 3
    assert str(refusal.value).splitlines() == [
        "validation refused the data: 1 of 3 expectations failed",
        "",
        "dataset       | expectation              | column | found                 | expected",
        "--------------+--------------------------+--------+-----------------------+--------------",
        "target leaves | pixel modes are accepted | mode   | 2 of 190 fail (1.05%) | one of L, RGB",
        "    examples: é/a.png (CMYK), b.png (P)",
        "    threshold: modes",
        "",
        "Repair the data, or change a threshold: they are in params.yaml under validate:",
    ]


def test_a_table_marks_expectations_about_the_number_of_rows():
    assert "| (rows) |" in table([row(column="")])


def test_a_report_is_read_back(tmp_path):
    report = ValidationReport([GOOD, FAILED], ["target leaves: no leak"])
    report.save(tmp_path)
    assert ValidationReport.load(tmp_path) == report
    assert json.loads((tmp_path / "validation.json").read_text())["passed"] is False


@pytest.mark.parametrize("content", ["", "[]", '{"rows": [{"what": "x"}], "not_reached": []}'])
def test_a_damaged_report_is_refused(tmp_path, content):
    (tmp_path / "validation.json").write_text(content)
    with pytest.raises(DataRefusedError, match=r"no readable validation\.json"):
        ValidationReport.load(tmp_path)


def test_names_from_a_dataset_are_made_printable():
    assert printable("a\x1b[2J\n\udcff.png") == "a\ufffd[2J\ufffd\ufffd.png"
    long = printable("x" * 90 + "y" * 90)
    assert (len(long), long[:50], long[-50:]) == (101, "x" * 50, "y" * 50)
