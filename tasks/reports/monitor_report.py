"""Reports of monitoring: an HTML page, a table for a terminal, Markdown for a Prefect artifact."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.reports.summary import plain, plain_only, safe
from tasks.reports.templates import templates
from tasks.runtime import formatting, paths
from tasks.runtime.formatting import percent
from transfer.deployment.monitoring.drift import Name, Test
from transfer.deployment.monitoring.report import Monitored

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # columns at most
DESCRIPTIONS: dict[Name, str] = {
    "features": "features that the networks compute from the inputs (maximum mean discrepancy)",
    "summary": "plain numbers of each item, such as brightness (maximum mean discrepancy)",
    "labels": "how often each class is predicted (exact tests, the smallest p-value of any class)",
    "confidence": "how sure the model is (Kolmogorov-Smirnov)",
    "rejects": "more files that cannot be read (Fisher)",
    "accuracy": "fewer labelled items that the model predicts correctly (Fisher)",
}
ACCURACY_BASIS = {
    "labels": "the share of {n} labelled items that the model predicts correctly",
    "labels and confidence": "{n} labelled items, and the confidence on {more} without a label "
    "(prediction-powered inference); it is valid if the labelled items are a random sample of all",
    "confidence": "the mean confidence on {more} items without a label; it is valid only if "
    "nothing has drifted",
}


def p_value(p: float | None) -> str:
    """A p-value as text; a dash if there were too few items for the test."""
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def effect(size: float | None) -> str:
    """An effect size of 0 to 1."""
    return "-" if size is None else f"{size:.2f}"


def outcome(test: Test) -> str:
    """The outcome of a test, in one or two words."""
    return "drift" if test.drifted else "not tested" if test.p is None else "none found"


def basis(report: Monitored) -> str:
    """The basis of the estimated accuracy, and when it is valid; '' without an estimate."""
    if (estimate := report.accuracy) is None:
        return ""
    text = ACCURACY_BASIS[estimate.kind].format(n=estimate.labelled, more=estimate.unlabelled)
    drifted = any(test.name != "rejects" for test in report.drifted)
    return text + (": not valid here" if estimate.kind == "confidence" and drifted else "")


def render(report: Monitored, plots: Mapping[str, bytes]) -> str:
    """Render the page, which loads no external resource.

    Args:
        report: the monitoring report.
        plots: SVG by name, as `tasks.reports.monitor_plots.draw` returns them.
    """
    from markupsafe import Markup

    environment = templates()
    filters = {"percent": percent, "count": formatting.count, "p_value": p_value, "effect": effect}
    environment.filters.update(filters, outcome=outcome, basis=basis)
    drawn = {name: Markup(content.decode()) for name, content in plots.items()}
    page: str = environment.get_template("monitor.html").render(
        r=report, plots=drawn, descriptions=DESCRIPTIONS
    )
    return page


def markdown(report: Monitored) -> str:
    """Outcome, tests and accuracy, for a Prefect artifact."""
    lines = [
        f"## {plain(report.sentence)}",
        "",
        f"{plain(report.folder)}, predicted by {plain(report.model)} version {report.version}.",
        "",
        "| test | p | adjusted | effect | outcome |",
        "|---|---:|---:|---:|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(report)),
        "",
        *(f"- {plain(line)}" for line in _lines(report)),
    ]
    return "\n".join(lines) + "\n"


def _rows(report: Monitored) -> list[list[str]]:
    return [
        [t.name, p_value(t.p), p_value(t.adjusted), effect(t.effect), outcome(t)]
        for t in report.tests
    ]


def _lines(report: Monitored) -> list[str]:
    """All other facts of the report, one per line."""
    expected, lines = report.expected, []
    if (estimate := report.accuracy) is not None:
        text = f"{percent(estimate.accuracy)} {formatting.between(estimate.low, estimate.high)}"
        lines.append(f"Accuracy {text}, from {basis(report)}.")
    lines.append(
        f"Expected {percent(expected.accuracy)} {formatting.between(expected.low, expected.high)}, "
        f"from {expected.items} test items."
    )
    if report.strange:
        text = ", ".join(f"{n} of {name!r}" for name, n in report.strange.items())
        lines.append(f"Labels that the model has no class for: {text}.")
    if report.rejects:
        text = ", ".join(f"{n} {reason}" for reason, n in sorted(report.rejects.items()))
        lines.append(f"Files that were not used: {text}.")
    if (read := report.items + report.rejected) < report.found:
        lines.append(f"{read} of {report.found} files were sampled (monitor.max_items).")
    if report.drift:
        lines.append(
            "A retrain is requested." if report.retrain else "The rule requests no retrain."
        )
    return lines


def terminal(
    report: Monitored, console: "Console", page: Path = paths.REPORTS / "monitor.html"
) -> None:
    """Print tests, outcome, accuracy and the path of the page, in at most 100 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    width = min(console.width, WIDTH)
    lines = box.ASCII2 if plain_only(console) else box.SIMPLE_HEAD
    table = Table(box=lines, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("test")
    for name in ("p", "adjusted", "effect", "outcome"):
        table.add_column(name, justify="right", no_wrap=True)
    for test, row in zip(report.tests, _rows(report), strict=True):
        style = "bold red" if test.drifted else "dim" if test.p is None else ""
        table.add_row(*(Text(safe(cell, console)) for cell in row), style=style)
    console.print(table, width=width)
    styled_lines = [("", ""), (report.sentence, "bold red" if report.drift else "bold green")]
    styled_lines += [(line, "") for line in _lines(report)] + [(f"Report: {page}", "dim")]
    for line, style in styled_lines:
        text = safe(line, console)
        console.print(text, style=style, markup=False, highlight=False, emoji=False, width=width)
