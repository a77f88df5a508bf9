"""What monitoring leaves for people: an HTML page, a terminal's table, an artifact."""

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
TOLD: dict[Name, str] = {
    "features": "what the networks see in the items (maximum mean discrepancy)",
    "summary": "plain numbers of each item, such as brightness (maximum mean discrepancy)",
    "labels": "how often each class is predicted (exact tests, the least p-value of any class)",
    "confidence": "how sure the model is (Kolmogorov-Smirnov)",
    "rejects": "more files that cannot be read (Fisher)",
    "accuracy": "fewer labelled items that the model has right (Fisher)",
}
RESTS_ON = {
    "labels": "the share of {n} labelled items that the model has right",
    "labels and confidence": "{n} labelled items, and the confidence on {more} without a label "
    "(prediction-powered inference); it holds if those with a label are a random sample of all",
    "confidence": "the mean confidence on {more} items without a label; it holds only where "
    "nothing has drifted",
}


def p_value(p: float | None) -> str:
    """A p-value in words; a dash where there was too little to test."""
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def effect(size: float | None) -> str:
    """An effect size of 0 to 1."""
    return "-" if size is None else f"{size:.2f}"


def outcome(test: Test) -> str:
    """What a test came to, in a word."""
    return "drift" if test.drifted else "not tested" if test.p is None else "none found"


def basis(found: Monitored) -> str:
    """What the estimated accuracy rests on, and when it holds; nothing where there is none."""
    if (estimate := found.accuracy) is None:
        return ""
    told = RESTS_ON[estimate.kind].format(n=estimate.labelled, more=estimate.unlabelled)
    drifted = any(test.name != "rejects" for test in found.drifted)
    return told + (": not here" if estimate.kind == "confidence" and drifted else "")


def render(found: Monitored, pictures: Mapping[str, bytes]) -> str:
    """Write the page, which loads nothing from anywhere.

    Args:
        found: everything that is told.
        pictures: SVG by name, as `tasks.reports.monitor_plots.draw` gives them.
    """
    from markupsafe import Markup

    environment = templates()
    filters = {"percent": percent, "count": formatting.count, "p_value": p_value, "effect": effect}
    environment.filters.update(filters, outcome=outcome, basis=basis)
    drawn = {name: Markup(content.decode()) for name, content in pictures.items()}
    page: str = environment.get_template("monitor.html").render(r=found, pictures=drawn, told=TOLD)
    return page


def markdown(found: Monitored) -> str:
    """Outcome, tests and accuracy, for a Prefect artifact."""
    lines = [
        f"## {plain(found.sentence)}",
        "",
        f"{plain(found.folder)}, seen by {plain(found.model)} version {found.version}.",
        "",
        "| test | p | adjusted | effect | outcome |",
        "|---|---:|---:|---:|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(found)),
        "",
        *(f"- {plain(line)}" for line in _lines(found)),
    ]
    return "\n".join(lines) + "\n"


def _rows(found: Monitored) -> list[list[str]]:
    return [
        [t.name, p_value(t.p), p_value(t.adjusted), effect(t.effect), outcome(t)]
        for t in found.tests
    ]


def _lines(found: Monitored) -> list[str]:
    """All else that is told, one fact a line."""
    expected, lines = found.expected, []
    if (it := found.accuracy) is not None:
        told = f"{percent(it.accuracy)} {formatting.between(it.low, it.high)}"
        lines.append(f"Accuracy {told}, from {basis(found)}.")
    lines.append(
        f"Expected {percent(expected.accuracy)} {formatting.between(expected.low, expected.high)}, "
        f"from {expected.items} test items."
    )
    if found.strange:
        told = ", ".join(f"{n} of {name!r}" for name, n in found.strange.items())
        lines.append(f"Labels that the model has no class for: {told}.")
    if found.rejects:
        told = ", ".join(f"{n} {reason}" for reason, n in sorted(found.rejects.items()))
        lines.append(f"Files that were not used: {told}.")
    if (read := found.items + found.rejected) < found.found:
        lines.append(f"{read} of {found.found} files were drawn (monitor.max_items).")
    if found.drift:
        lines.append("A retrain is wanted." if found.retrain else "The rule asks for no retrain.")
    return lines


def terminal(
    found: Monitored, console: "Console", report: Path = paths.REPORTS / "monitor.html"
) -> None:
    """Print tests, outcome, accuracy and where the report is, in 100 columns or fewer."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    width = min(console.width, WIDTH)
    lines = box.ASCII2 if plain_only(console) else box.SIMPLE_HEAD
    table = Table(box=lines, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("test")
    for name in ("p", "adjusted", "effect", "outcome"):
        table.add_column(name, justify="right", no_wrap=True)
    for test, row in zip(found.tests, _rows(found), strict=True):
        style = "bold red" if test.drifted else "dim" if test.p is None else ""
        table.add_row(*(Text(safe(cell, console)) for cell in row), style=style)
    console.print(table, width=width)
    told = [("", ""), (found.sentence, "bold red" if found.drift else "bold green")]
    told += [(line, "") for line in _lines(found)] + [(f"Report: {report}", "dim")]
    for line, style in told:
        text = safe(line, console)
        console.print(text, style=style, markup=False, highlight=False, emoji=False, width=width)
