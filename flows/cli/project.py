"""Make a project."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import CHAIN, app


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
