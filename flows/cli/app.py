"""What every command shares: the application, its options, and how one begins."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.runtime import command_start, environment, paths

app = typer.Typer(
    name="crosstrain",
    help="Turn a large source dataset and a small target dataset into one better model.",
    epilog="Exit codes: 0 done (promoted or not: read the verdict), 2 usage or settings, 3 data "
    "refused, 4 nothing to do, 5 a step failed (run again to resume), 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

CHAIN, MODEL, DATA, OPERATION = "Train", "The model", "Data", "Operation"
"""Panels of the help."""

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting; repeatable."),
]
Params = Annotated[Path, typer.Option("--params", help="The settings file.")]
Target = Annotated[str, typer.Option("--target", help="Name of the target dataset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def enter() -> None:
    """Go to the project's root, and set up the tools around us before one is imported."""
    paths.enter_project()
    environment.prepare(Path.cwd())


def begin() -> None:
    """Enter, and let Prefect's server come up while this process imports what it needs."""
    command_start.begin()
    enter()
    from flows.runtime import local_prefect

    local_prefect.begin()


def show(told: dict[str, Any], *, as_json: bool) -> None:
    """Print named values, one a line, or as JSON."""
    if as_json:
        print(json.dumps(told, indent=1))
        return
    width = max(map(len, told))
    for key, value in told.items():
        print(f"{key:{width}} {value}")
