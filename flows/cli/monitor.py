"""Monitor a champion's inputs for drift."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import OPERATION, AsJson, Overrides, Params, Target, app, begin, target_of
from tasks.runtime import paths


@app.command(
    rich_help_panel=OPERATION, epilog="Example: crosstrain monitor incoming/ --target digits"
)
def monitor(
    folder: Annotated[
        Path,
        typer.Argument(help="New items; one folder per class if they have labels."),
    ],
    target: Target = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
    params: Params = paths.PARAMS,
) -> None:
    """Test new items for drift, and estimate the champion's accuracy on them."""
    folder = folder.absolute()
    begin()
    name = target_of(target, params)
    from transfer.settings import project as typed

    settings = typed.load(params, overrides or []).monitor
    from rich.console import Console

    from flows import monitor as chain
    from flows.runtime.run_flow import run
    from tasks.reports.monitor_report import terminal

    monitored = run(lambda: chain.monitor(folder, name, settings))
    if as_json:
        print(monitored.model_dump_json(indent=1))
    else:
        terminal(monitored, Console())
