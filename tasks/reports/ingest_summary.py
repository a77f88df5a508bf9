"""The summary of an ingest: Markdown for a Prefect artifact, a table for a terminal."""

from typing import TYPE_CHECKING

from tasks.reports.summary import plain, safe
from transfer.data.ingest.changes import Changes

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 10  # rejects and conflicts that are shown
COLUMNS = (
    "class",
    "before",
    "added",
    "removed",
    "moved in",
    "moved out",
    "duplicates",
    "conflicts",
    "after",
)


def markdown(changes: Changes) -> str:
    """The changes in each class, and the items that were left out, with the reasons."""
    lines = [
        f"## {plain(headline(changes))}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---{'|---:' * (len(COLUMNS) - 1)}|",
        *(f"| {' | '.join([plain(name), *cells])} |" for name, cells in _rows(changes)),
        "",
        *(f"- {plain(line)}" for line in remarks(changes)),
    ]
    return "\n".join(lines) + "\n"


def headline(changes: Changes) -> str:
    """The outcome of a delivery, in one line."""
    into = f"{changes.delivery} into {changes.dataset}"
    if changes.refused:
        return f"{into}: refused"
    return f"{into}: {'' if changes.taken else 'nothing new: '}{changes.sentence()}"


def remarks(changes: Changes) -> list[str]:
    """Conflicts, rejects and other remarks, one per line."""
    lines = [changes.refused] if changes.refused else []
    lines += [
        f"conflict: {item.path} is {item.label}, and equals {item.of}, which is {item.stands_under}"
        for item in changes.conflicts[:SHOWN]
    ]
    rejected = changes.unusable()
    lines += [
        f"rejected: {reject.path}: {reject.reason} ({reject.detail})" for reject in rejected[:SHOWN]
    ]
    if changes.quarantine:
        lines.append(f"all {len(rejected)} rejected files, with reasons: {changes.quarantine}")
    lines += changes.concerns
    lines += [f"commit {changes.commit[:12]}"] if changes.commit else []
    return [*lines, "pushed"] if changes.pushed else lines


def _rows(changes: Changes) -> list[tuple[str, list[str]]]:
    return [
        (name, [str(n) if n else "" for n in class_changes.model_dump().values()])
        for name, class_changes in changes.classes.items()
    ]


def terminal(changes: Changes, console: "Console") -> None:
    """Print the changes; only ASCII characters if the console is not a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2 if not console.is_terminal else box.SIMPLE_HEAD, show_edge=False)
    table.add_column("class")
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right")
    for name, cells in _rows(changes):
        table.add_row(Text(safe(name, console)), *cells)
    console.print(table)
    for line in (headline(changes), *remarks(changes)):
        console.print(Text(safe(line, console)), highlight=False)
