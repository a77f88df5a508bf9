"""What every command shares: the application, its options, and how one begins."""

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
    """A settings file in the folder where the command was typed, else one of the project's."""
    return params if params == paths.PARAMS or not params.exists() else params.absolute()


Params = Annotated[Path, typer.Option("--params", callback=_from_here, help="The settings file.")]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Name of the target dataset; that of params.yaml if not given."),
]
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


def target_of(name: str | None, params: Path = paths.PARAMS) -> str:
    """The target that was asked for, else the one of a settings file.

    The file is read without the sections that check it, which would import all that they configure.

    Raises:
        SettingsError: the file is no settings file.
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
            f"{params} names no target dataset ({type(error).__name__}: {error}); mend it, or give "
            "--target NAME"
        ) from error


def show(told: dict[str, Any], *, as_json: bool) -> None:
    """Print named values, one a line, or as JSON."""
    if as_json:
        print(json.dumps(told, indent=1))
        return
    width = max(map(len, told))
    for key, value in told.items():
        print(f"{key:{width}} {value}")
