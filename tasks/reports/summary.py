"""The summary of a result: Markdown for a Prefect artifact, a table for a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.runtime import paths
from tasks.runtime.formatting import between, budget, duration, outcome, percent, points
from transfer.evaluation.report_schema import Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100  # columns at most
STYLES = {"positive": "bold green", "none": "bold", "negative": "bold red"}


def markdown(result: Result) -> str:
    """Verdict, promotion with its reasons, key figures and arms."""
    lines = [
        f"## {result.verdict.capitalize()}: {plain(result.sentence)}",
        "",
        f"**{plain(outcome(result))}**",
        "",
        *(f"- {plain(reason)}" for reason in result.reasons),
        *(f"- {plain(line)}" for line in budget(result)),
        "",
        f"| on {result.test_items} test items | value | {100 * result.level:g}% interval |",
        "|---|---:|---:|",
        *_key_figures(result),
        "",
        "| method | seed | validation | test | interval | time | weight |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {plain(a.group)} | {a.seed} | {percent(a.validation)} | {percent(a.test)} "
            f"| {between(a.test_low, a.test_high)} | {duration(a.seconds)} | {a.weight:.2f} |"
            for a in result.arms
        ),
    ]
    return "\n".join(lines) + "\n"


def _key_figures(result: Result) -> list[str]:
    chosen, scratch, gain = result.chosen, result.scratch, result.gain
    return [
        f"| chosen model ({plain(chosen.scheme)} of {len(chosen.members)}), accuracy "
        f"| {percent(chosen.accuracy)} | {between(chosen.low, chosen.high)} |",
        f"| {_baseline(result)} ({len(result.seeds)} seeds), accuracy "
        f"| {percent(scratch.accuracy)} | {between(scratch.low, scratch.high)} |",
        f"| gain in {plain(gain.metric)}, points "
        f"| {points(gain.point)} | [{points(gain.low)}, {points(gain.high)}] |",
    ]


def _baseline(result: Result) -> str:
    return (
        "from scratch"
        if result.scratch.method == "scratch"
        else "source network without adaptation"
    )


def plain(text: str) -> str:
    """Text with all special characters of Markdown and HTML escaped."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#~&!" else c for c in " ".join(text.split()))


def terminal(
    result: Result, console: "Console", report: Path = paths.REPORTS / "retrain.html"
) -> None:
    """Print arms, key figures, verdict, promotion and the path of the page, within 100 columns.

    Only ASCII characters are written if the console is not a terminal.
    """
    width = min(console.width, WIDTH)
    console.print(_table(result, console), width=width)
    reasons = result.reasons or [
        f"{rule.rule}: found {rule.found}, expected {rule.expected}"
        for rule in result.rules
        if not rule.passed
    ]
    lines = [
        ("", ""),
        (result.sentence, STYLES[result.verdict]),
        (outcome(result), "bold"),
        *((f"- {reason}", "") for reason in reasons),
        *((line, "yellow") for line in budget(result)),
        (f"Report: {report}", "dim"),
    ]
    for line, style in lines:
        text = safe(line, console)
        console.print(text, style=style, markup=False, highlight=False, emoji=False, width=width)


def _table(result: Result, console: "Console") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = box.ASCII2 if plain_only(console) else box.SIMPLE_HEAD
    table = Table(box=lines, show_edge=False, pad_edge=False, header_style="dim")
    level = f"{100 * result.level:g}%"
    table.add_column("arm")
    for name in ("seed", "validation", f"test [{level}]", "time", "weight"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, style in _rows(result):
        table.add_row(*(Text(safe(cell, console)) for cell in row), style=style)
    return table


def _rows(result: Result) -> list[tuple[list[str], str]]:
    """Cells and style of each row: the arms, then the two models that are compared."""
    rows = []
    for a in result.arms:
        test = f"{percent(a.test, '')} {between(a.test_low, a.test_high)}"
        weight = f"{a.weight:.2f}" if a.weight > 0 else "-"
        cells = [
            a.group if a.finalist else f"{a.group} (stopped)",
            str(a.seed),
            percent(a.validation, ""),
            test,
            duration(a.seconds),
            weight,
        ]
        rows.append((cells, "cyan" if a.weight > 0 else "" if a.uses_source else "dim"))
    baseline = f"{result.scratch.method} ensemble"
    for name, figures in ((baseline, result.scratch), ("chosen model", result.chosen)):
        test = f"{percent(figures.accuracy, '')} {between(figures.low, figures.high)}"
        rows.append(([name, "", "", test, "", ""], "bold"))
    return rows


def plain_only(console: "Console") -> bool:
    """Whether only ASCII characters may be written to a console."""
    return not console.is_terminal or console.options.ascii_only


def safe(text: str, console: "Console") -> str:
    """Text without control characters, and with only ASCII if `plain_only` requires it."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text.encode("ascii", "backslashreplace").decode() if plain_only(console) else text
