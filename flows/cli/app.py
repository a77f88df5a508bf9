"""What every command shares: the application, its options, and how a command begins."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.runtime import command_start, environment, paths
from transfer.core.errors import SettingsError

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


def _from_here(params: Path) -> Path:
    """A settings file of the folder where the command was typed, else of the project's root."""
    return params if params == paths.PARAMS or not params.exists() else params.absolute()


Params = Annotated[Path, typer.Option("--params", callback=_from_here, help="The settings file.")]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Name of the target dataset; that of params.yaml if not given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def enter() -> None:
    """Go to the project's root, and configure the tools before any of them is imported."""
    paths.enter_project()
    environment.prepare(Path.cwd())


def begin() -> None:
    """Enter, and start Prefect's server while this process imports what it needs."""
    command_start.begin()
    enter()
    from flows.runtime import local_prefect

    local_prefect.begin()


def target_of(name: str | None, params: Path = paths.PARAMS) -> str:
    """The target that was asked for, else that of a settings file.

    The file is read without the sections that check it: these would import all the code that they
    configure.

    Raises:
        SettingsError: the file is not a settings file.
    """
    if name is not None:
        return name
    import yaml

    from transfer.settings.dataset_name import TARGET_PATH, dataset_name

    try:
        target = (yaml.safe_load(params.read_text(encoding="utf-8")) or {}).get("target") or {}
        return dataset_name(Path(target.get("path", TARGET_PATH)), target.get("name", ""))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise SettingsError(
            f"{params} names no target dataset ({type(error).__name__}: {error}); correct it, or "
            "give --target NAME"
        ) from error


def show(values: dict[str, Any], *, as_json: bool) -> None:
    """Print named values, one per line, or as JSON."""
    if as_json:
        print(json.dumps(values, indent=1))
        return
    width = max(map(len, values))
    for key, value in values.items():
        print(f"{key:{width}} {value}")
