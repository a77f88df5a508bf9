"""Checks expectations of the data with Great Expectations; the only module that imports it.

The import takes seconds, so it happens only when a validation runs.
"""

import html
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from tasks.data.validation_report import ExpectationRow, ValidationReport, printable, refuse
from tasks.runtime import gc_tuning
from transfer.data.quality.checks import ScannedDataset
from transfer.data.quality.expectations import Expectation, Suite, not_reached, suites
from transfer.data.quality.thresholds import QualitySettings

__all__ = ["ExpectationRow", "ValidationReport", "refuse", "validate"]

EXAMPLES = 5
_DOCS = Path(__file__).with_name("validation.html")
_CONTEXT_LOCK = threading.Lock()  # GX has a single current context per process


def validate(
    source: ScannedDataset,
    target: ScannedDataset,
    *,
    settings: QualitySettings,
    out: Path,
    near: Mapping[str, Any] | None = None,
) -> ValidationReport:
    """Validate a source and a target, also if one or both could not be split.

    Args:
        source: the decoded source.
        target: the decoded target.
        settings: the thresholds.
        out: existing folder; receives ``validation.json`` and ``data_docs/index.html``, one page
            that needs no network.
        near: ``near_duplicates`` of the target's split.json; None if it is not known yet.

    Raises:
        DataRefusedError: a split belongs to another manifest. Failed expectations do not raise:
            see `refuse`.
    """
    all_suites = suites(source, target, settings, near)
    with _CONTEXT_LOCK:
        results = _run(all_suites)
        rows = [
            _row(suite, expectation, outcome)
            for suite, result in zip(all_suites, results, strict=True)
            for expectation, outcome in zip(suite.expectations, _in_order(result), strict=True)
        ]
        report = ValidationReport(rows, not_reached(source, target, near))
        page = _data_docs(report, all_suites, results)
    report.save(out)
    (out / "data_docs").mkdir(exist_ok=True)
    (out / "data_docs" / "index.html").write_text(page, encoding="utf-8")
    return report


def _run(all_suites: Sequence[Suite]) -> list[Any]:
    """Run all suites in one separate context that keeps everything in memory."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with gc_tuning.raised_threshold():
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    tables = context.data_sources.add_pandas("tables")
    return [_validated(tables, suite, f"{number}") for number, suite in enumerate(all_suites)]


def _validated(tables: Any, suite: Suite, name: str) -> Any:
    import great_expectations as gx
    import great_expectations.expectations as gxe

    expectations = [
        getattr(gxe, e.class_name)(
            **e.arguments, description=e.what, severity=e.severity, meta={"row": row}
        )
        for row, e in enumerate(suite.expectations)
    ]
    gx_suite = gx.ExpectationSuite(
        name=f"{suite.dataset}: {suite.title}", expectations=expectations
    )
    batch = tables.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    result_format = {
        "result_format": "SUMMARY",
        "unexpected_index_column_names": [suite.key],
        "partial_unexpected_count": EXAMPLES,
    }

    def validated(table: pd.DataFrame) -> Any:
        frame = table.copy(deep=False)
        outcome = batch.get_batch({"dataframe": frame}).validate(
            gx_suite, result_format=result_format
        )
        for column in list(frame):  # GX keeps a table until it gets the next one
            del frame[column]
        return outcome

    return reduce(_add_part, map(validated, suite.tables()))


def _add_part(total: Any, part: Any) -> Any:
    """Add the result of a part of a table to the result of the earlier parts.

    Every expectation of a table in parts is about rows, so the counts can be added.
    """
    part_outcomes = {outcome.expectation_config.meta["row"]: outcome for outcome in part.results}
    for outcome in total.results:
        part_outcome = part_outcomes[outcome.expectation_config.meta["row"]]
        if part_outcome.exception_info["raised_exception"]:
            outcome.result, outcome.exception_info = (
                part_outcome.result,
                part_outcome.exception_info,
            )
        elif not outcome.exception_info["raised_exception"]:
            outcome.result = _sum(outcome.result, part_outcome.result)
        outcome.success = _passes(outcome)
    total.success = all(outcome.success for outcome in total.results)
    return total


def _sum(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    total = {key: left[key] + right[key] for key in left if key.endswith("_count")}
    shown = {key: (left[key] + right[key])[:EXAMPLES] for key in left if key.startswith("partial_")}
    rows, unexpected = total["element_count"], total["unexpected_count"]
    missing = total.get("missing_count", 0)
    shares = {
        "unexpected_percent": _percent(unexpected, rows - missing),
        "unexpected_percent_nonmissing": _percent(unexpected, rows - missing),
        "unexpected_percent_total": _percent(unexpected, rows),
        "missing_percent": _percent(missing, rows),
    }
    return {**left, **total, **shown, **{key: shares[key] for key in shares if key in left}}


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _passes(outcome: Any) -> bool:
    """Decide about a sum as Great Expectations decides about a part."""
    if outcome.exception_info["raised_exception"]:
        return False
    rows = outcome.result["element_count"] - outcome.result.get("missing_count", 0)
    mostly = outcome.expectation_config.kwargs.get("mostly", 1)
    return bool(not rows or (rows - outcome.result["unexpected_count"]) / rows >= mostly)


def _in_order(result: Any) -> list[dict[str, Any]]:
    """The results of a suite in the order of its expectations, which GX does not keep."""
    outcomes = result.to_json_dict()["results"]
    return sorted(outcomes, key=lambda outcome: outcome["expectation_config"]["meta"]["row"])


def _row(suite: Suite, expectation: Expectation, outcome: dict[str, Any]) -> ExpectationRow:
    column, result = expectation.arguments.get("column", ""), outcome["result"]
    return ExpectationRow(
        dataset=suite.dataset,
        what=expectation.what,
        column=column,
        found=_found_text(result),
        expected=expectation.expected,
        passed=outcome["success"],
        severity=expectation.severity,
        setting=expectation.setting,
        expectation=outcome["expectation_config"]["type"],
        examples=expectation.examples[:EXAMPLES] or _examples(result, column, suite.key),
    )


def _found_text(result: dict[str, Any]) -> str:
    if "unexpected_count" in result:
        unexpected, rows = result["unexpected_count"], result["element_count"]
        return (
            f"{unexpected} of {rows} fail ({unexpected / rows:.2%})"
            if unexpected
            else f"none of {rows} fails"
        )
    value = result.get("observed_value", "it could not be evaluated")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _examples(result: dict[str, Any], column: str, key: str) -> list[str]:
    """Names of failed rows: the id, with the value of the column in brackets."""
    rows = result.get("partial_unexpected_index_list") or []
    names = [
        str(row[key]) if column == key else f"{row[key]} ({row[column]})" for row in rows[:EXAMPLES]
    ]
    return [printable(name) for name in names]


def _data_docs(
    report: ValidationReport, all_suites: Sequence[Suite], results: Sequence[Any]
) -> str:
    """Write one page: the table, then each suite as rendered by GX's Data Docs.

    The site that GX itself builds loads scripts and styles from six hosts, has a name that contains
    the time, and copies 4 MB of images.
    """
    from great_expectations.render.view import DefaultJinjaSectionView

    view = DefaultJinjaSectionView()
    pages = [
        {
            "title": f"{suite.dataset}: {suite.title}",
            "passed": result.success,
            "html": Markup(
                view.render({"section": _section(result), "section_loop": {"index": i}})
            ),
        }
        for i, (suite, result) in enumerate(zip(all_suites, results, strict=True), 1)
    ]
    template = jinja2.Environment(autoescape=True).from_string(_DOCS.read_text(encoding="utf-8"))
    verdict = "passed" if report.passed else "failed"
    return template.render(report=report, pages=pages, verdict=verdict)


def _section(result: Any) -> dict[str, Any]:
    """Render a suite's result, without GX's overview, as one section.

    GX's renderers escape nothing, so the names that come from a dataset are escaped first.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    for outcome in result.results:
        outcome.result = _escaped(outcome.result)
        outcome.exception_info = _escaped(outcome.exception_info)
    page = ValidationResultsPageRenderer().render(result)
    sections = (section.to_json_dict() for section in page.sections[1:])
    return {
        "content_blocks": [block for outcome in sections for block in outcome["content_blocks"]]
    }


def _escaped(value: Any) -> Any:
    """Escape strings for HTML, and turn NumPy scalars into Python's, which GX can render."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escaped(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(member) for member in value]
    return value
