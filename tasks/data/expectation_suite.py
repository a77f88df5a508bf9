"""Put what is expected of the data to it, with Great Expectations; the only file that imports it.

Its import takes seconds, so it happens when validation runs and not before.
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

from tasks.data.validation_report import Row, ValidationReport, printable, refuse
from tasks.runtime import gc_tuning
from transfer.data.quality.checks import ScannedDataset
from transfer.data.quality.expectations import Expectation, Suite, not_reached, suites
from transfer.data.quality.thresholds import QualitySettings

__all__ = ["Row", "ValidationReport", "refuse", "validate"]

EXAMPLES = 5
_DOCS = Path(__file__).with_name("validation.html")
_ONE_AT_A_TIME = threading.Lock()  # GX has one current context a process


def validate(
    source: ScannedDataset,
    target: ScannedDataset,
    *,
    settings: QualitySettings,
    out: Path,
    near: Mapping[str, Any] | None = None,
) -> ValidationReport:
    """Validate a source and a target, also when one or both could not be split.

    Args:
        out: existing folder; gets ``validation.json`` and ``data_docs/index.html``, one page
            that needs no network.
        near: ``near_duplicates`` of the target's split.json; None when it is not known yet.

    Raises:
        DataRefusedError: a split belongs to another manifest. Failed expectations do not raise:
            see `refuse`.
    """
    asked = suites(source, target, settings, near)
    with _ONE_AT_A_TIME:
        results = _run(asked)
        rows = [
            _row(suite, expectation, found)
            for suite, result in zip(asked, results, strict=True)
            for expectation, found in zip(suite.expectations, _in_order(result), strict=True)
        ]
        report = ValidationReport(rows, not_reached(source, target, near))
        page = _data_docs(report, asked, results)
    report.save(out)
    (out / "data_docs").mkdir(exist_ok=True)
    (out / "data_docs" / "index.html").write_text(page, encoding="utf-8")
    return report


def _run(asked: Sequence[Suite]) -> list[Any]:
    """Run each suite in one context of its own that keeps everything in memory."""
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
    return [_validated(tables, suite, f"{number}") for number, suite in enumerate(asked)]


def _validated(tables: Any, suite: Suite, name: str) -> Any:
    import great_expectations as gx
    import great_expectations.expectations as gxe

    expectations = [
        getattr(gxe, e.class_name)(
            **e.arguments, description=e.what, severity=e.severity, meta={"row": row}
        )
        for row, e in enumerate(suite.expectations)
    ]
    asked = gx.ExpectationSuite(name=f"{suite.dataset}: {suite.title}", expectations=expectations)
    batch = tables.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    told = {
        "result_format": "SUMMARY",
        "unexpected_index_column_names": [suite.key],
        "partial_unexpected_count": EXAMPLES,
    }

    def validated(table: pd.DataFrame) -> Any:
        given = table.copy(deep=False)
        found = batch.get_batch({"dataframe": given}).validate(asked, result_format=told)
        for column in list(given):  # GX keeps the table until it has the next
            del given[column]
        return found

    return reduce(_together, map(validated, suite.tables()))


def _together(one: Any, other: Any) -> Any:
    """Add what was found in a part of a table to what was found in the parts before it.

    Every expectation of a table in parts is about rows, so that counts add up.
    """
    found = {told.expectation_config.meta["row"]: told for told in other.results}
    for told in one.results:
        more = found[told.expectation_config.meta["row"]]
        if more.exception_info["raised_exception"]:
            told.result, told.exception_info = more.result, more.exception_info
        elif not told.exception_info["raised_exception"]:
            told.result = _sum(told.result, more.result)
        told.success = _holds(told)
    one.success = all(told.success for told in one.results)
    return one


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    total = {key: one[key] + other[key] for key in one if key.endswith("_count")}
    shown = {key: (one[key] + other[key])[:EXAMPLES] for key in one if key.startswith("partial_")}
    rows, bad = total["element_count"], total["unexpected_count"]
    missing = total.get("missing_count", 0)
    shares = {
        "unexpected_percent": _percent(bad, rows - missing),
        "unexpected_percent_nonmissing": _percent(bad, rows - missing),
        "unexpected_percent_total": _percent(bad, rows),
        "missing_percent": _percent(missing, rows),
    }
    return {**one, **total, **shown, **{key: shares[key] for key in shares if key in one}}


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _holds(told: Any) -> bool:
    """Judge a sum as Great Expectations judges a part."""
    if told.exception_info["raised_exception"]:
        return False
    rows = told.result["element_count"] - told.result.get("missing_count", 0)
    mostly = told.expectation_config.kwargs.get("mostly", 1)
    return bool(not rows or (rows - told.result["unexpected_count"]) / rows >= mostly)


def _in_order(result: Any) -> list[dict[str, Any]]:
    """Give the results of a suite in the order of its expectations, which GX does not keep."""
    told = result.to_json_dict()["results"]
    return sorted(told, key=lambda one: one["expectation_config"]["meta"]["row"])


def _row(suite: Suite, expectation: Expectation, told: dict[str, Any]) -> Row:
    column, result = expectation.arguments.get("column", ""), told["result"]
    return Row(
        dataset=suite.dataset,
        what=expectation.what,
        column=column,
        found=_found(result),
        expected=expectation.expected,
        passed=told["success"],
        severity=expectation.severity,
        setting=expectation.setting,
        expectation=told["expectation_config"]["type"],
        examples=expectation.examples[:EXAMPLES] or _examples(result, column, suite.key),
    )


def _found(result: dict[str, Any]) -> str:
    if "unexpected_count" in result:
        bad, rows = result["unexpected_count"], result["element_count"]
        return f"{bad} of {rows} fail ({bad / rows:.2%})" if bad else f"none of {rows} fails"
    value = result.get("observed_value", "it could not be evaluated")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _examples(result: dict[str, Any], column: str, key: str) -> list[str]:
    """Name failed rows: the id, and in brackets what the column says of it."""
    rows = result.get("partial_unexpected_index_list") or []
    names = [
        str(row[key]) if column == key else f"{row[key]} ({row[column]})" for row in rows[:EXAMPLES]
    ]
    return [printable(name) for name in names]


def _data_docs(report: ValidationReport, asked: Sequence[Suite], results: Sequence[Any]) -> str:
    """Write one page: our table, then each suite as the renderers of GX's Data Docs tell it.

    The site that GX itself builds links scripts and styles of six hosts, is named after the
    clock and copies 4 MB of pictures.
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
        for i, (suite, result) in enumerate(zip(asked, results, strict=True), 1)
    ]
    template = jinja2.Environment(autoescape=True).from_string(_DOCS.read_text(encoding="utf-8"))
    verdict = "passed" if report.passed else "failed"
    return template.render(report=report, pages=pages, verdict=verdict)


def _section(result: Any) -> dict[str, Any]:
    """Render a suite's result, without GX's overview, as one section.

    GX's renderers escape nothing, so the names that come from a dataset are escaped first.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    for one in result.results:
        one.result = _escaped(one.result)
        one.exception_info = _escaped(one.exception_info)
    page = ValidationResultsPageRenderer().render(result)
    sections = (section.to_json_dict() for section in page.sections[1:])
    return {"content_blocks": [block for one in sections for block in one["content_blocks"]]}


def _escaped(value: Any) -> Any:
    """Escape strings for HTML, and turn NumPy scalars into Python's, which GX can render."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(one) for one in value]
    return value
