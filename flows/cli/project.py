"""Make a project, and list its settings."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import CHAIN, OPERATION, AsJson, Params, app, enter
from tasks.runtime import paths

if TYPE_CHECKING:
    from transfer.settings.reference import Row


@app.command(rich_help_panel=CHAIN, epilog="Example: crosstrain init plants")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the new project.")],
    git: Annotated[
        bool,
        typer.Option(help="Put the project under Git: the repository that DIR is in, or its own."),
    ] = True,
) -> None:
    """Make a project in a folder, new or not; an existing file is never overwritten."""
    from tasks.versioning import new_project

    folder = folder.absolute()
    for name in new_project.create(folder, git=git):
        print(folder / name)
    print(f"\nNext: cd {folder}, put your data where params.yaml names it, type crosstrain retrain")


@app.command(rich_help_panel=CHAIN, epilog="Example: crosstrain settings adapt.training")
def settings(
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="A section, such as adapt; all if empty.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List every setting, or those of a section: default, range and what it does."""
    from transfer.settings import reference

    rows = reference.rows(prefix)
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    _table(rows)


def _table(rows: "list[Row]") -> None:
    """Print a line for each setting and one for its meaning, which narrow terminals do not cut."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=False)
    for row in rows:
        head = Text(row.name, style="bold").append(f" = {row.default}", style="not bold")
        console.print(head)
        detail = f"{row.description} [{row.range}]" if row.range else row.description
        console.print(Padding(Text(detail, style="dim"), (0, 0, 0, 4)))


@app.command(rich_help_panel=OPERATION, epilog="Example: crosstrain deployments > prefect.yaml")
def deployments(params: Params = paths.PARAMS) -> None:
    """Print prefect.yaml, for work pools: every flow, with the settings and times of a file."""
    enter()
    from flows.operation import prefect_yaml
    from transfer.settings import project

    print(prefect_yaml.text(project.load(params)), end="")
