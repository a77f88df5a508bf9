"""Add new data to a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import DATA, AsJson, Overrides, Params, app, begin, enter
from tasks.runtime import paths
from transfer.core.errors import NothingToDoError, SettingsError

if TYPE_CHECKING:
    from transfer.data.ingest.changes import Changes


@app.command(
    rich_help_panel=DATA,
    epilog="Example: crosstrain ingest delivery.zip --dataset plants --commit",
)
def ingest(
    incoming: Annotated[
        Path | None, typer.Argument(help="A folder, a .zip or .tar archive, or an .npz file.")
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="Name of a dataset in data/; created if it does not exist.")
    ] = "",
    relabel: Annotated[
        bool, typer.Option("--relabel", help="The delivery is right where labels differ.")
    ] = False,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Add classes that the dataset does not have.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Remove items that the delivery lacks: it is the whole dataset."
        ),
    ] = False,
    commit: Annotated[bool, typer.Option("--commit", help="Commit data.dvc to Git.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push to DVC's default remote.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete an interrupted ingest.")
    ] = False,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Undo an interrupted ingest.")
    ] = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
    params: Params = paths.PARAMS,
) -> None:
    """Check new data, add it to a dataset, and record the new version.

    Exit code 4 means that the delivery held nothing new.
    """
    _check_arguments(incoming, dataset, resume=resume, take_back=take_back)
    incoming = None if incoming is None else incoming.absolute()
    if take_back:
        enter()
        _take_back()
        return
    begin()
    from transfer.settings import project as typed

    settings = typed.load(params, overrides or [])
    from flows import ingest as flow
    from flows.runtime.run_flow import run

    if incoming is None:
        changes = run(flow.resume)
    else:
        changes = run(
            lambda: flow.ingest(
                settings, incoming, dataset, relabel, new_classes, replace, commit, push
            )
        )
    _show(changes, as_json=as_json)


def _check_arguments(incoming: Path | None, dataset: str, *, resume: bool, take_back: bool) -> None:
    if resume + take_back + (incoming is not None) != 1:
        raise SettingsError("expected one of: a delivery, --resume, --take-back")
    if (incoming is not None) != bool(dataset):
        raise SettingsError("a delivery needs --dataset NAME, --resume and --take-back none")


def _take_back() -> None:
    from tasks.data import ingest as steps

    with steps.exclusive():
        if not steps.interrupted():
            raise NothingToDoError("no ingest was interrupted")
        print(f"{paths.DATA / steps.take_back()} is what it was before")


def _show(changes: "Changes | None", *, as_json: bool) -> None:
    if changes is None:
        raise NothingToDoError("no ingest was interrupted")
    if as_json:
        print(changes.model_dump_json(indent=1))
    else:
        from rich.console import Console

        from tasks.reports.ingest_summary import terminal

        terminal(changes, Console())
    if not changes.taken:
        raise NothingToDoError(
            f"{changes.delivery} holds nothing new; {changes.dataset} is unchanged"
        )
