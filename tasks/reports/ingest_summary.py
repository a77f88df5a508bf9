"""The short version of an ingest: Markdown for a Prefect artifact, a table for a terminal."""

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
    """What changed in each class, and what was left out and why."""
    lines = [
        f"## {plain(headline(changes))}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---{'|---:' * (len(COLUMNS) - 1)}|",
        *(f"| {' | '.join([plain(name), *told])} |" for name, told in _rows(changes)),
        "",
        *(f"- {plain(line)}" for line in remarks(changes)),
    ]
    return "\n".join(lines) + "\n"


def headline(changes: Changes) -> str:
    """What became of a delivery, in one line."""
    into = f"{changes.delivery} into {changes.dataset}"
    if changes.refused:
        return f"{into}: refused"
    return f"{into}: {'' if changes.taken else 'nothing new: '}{changes.sentence()}"


def remarks(changes: Changes) -> list[str]:
    """What a person should know besides the numbers."""
    told = [changes.refused] if changes.refused else []
    told += [
        f"conflict: {one.path} is {one.label}, and equals {one.of}, which is {one.stands_under}"
        for one in changes.conflicts[:SHOWN]
    ]
    bad = changes.unusable()
    told += [f"rejected: {one.path}: {one.reason} ({one.detail})" for one in bad[:SHOWN]]
    if changes.quarantine:
        told.append(f"all {len(bad)} rejected files, with reasons: {changes.quarantine}")
    told += changes.concerns
    told += [f"commit {changes.commit[:12]}"] if changes.commit else []
    return [*told, "pushed"] if changes.pushed else told


def _rows(changes: Changes) -> list[tuple[str, list[str]]]:
    return [
        (name, [str(n) if n else "" for n in one.model_dump().values()])
        for name, one in changes.classes.items()
    ]


def terminal(changes: Changes, console: "Console") -> None:
    """Print what changed; only ASCII when the console is not a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2 if not console.is_terminal else box.SIMPLE_HEAD, show_edge=False)
    table.add_column("class")
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right")
    for name, told in _rows(changes):
        table.add_row(Text(safe(name, console)), *told)
    console.print(table)
    for line in (headline(changes), *remarks(changes)):
        console.print(Text(safe(line, console)), highlight=False)
