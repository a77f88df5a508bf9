"""Run the chain, and show its result."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import CHAIN, AsJson, Overrides, Params, app, begin
from tasks.runtime import paths
from transfer.core import durations
from transfer.core.errors import NothingToDoError, SettingsError

Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Time that the run may take, such as 90s, 5m or 1h30m: the most promising work first.",
    ),
]


@app.command(rich_help_panel=CHAIN, epilog="Example: crosstrain demo")
def demo(overrides: Overrides = None, budget: Budget = None) -> None:
    """Write the two demo datasets and run the whole chain on them, with the demo's own settings.

    Needs a project (crosstrain init DIR) and the extra `demo`; params.yaml is not read.
    """
    from tasks.versioning import demo_data

    with_budget = _with(overrides, budget)
    begin()
    demo_data.write(paths.DATA)
    _retrain(demo_data.PARAMS, with_budget, promote=True)


@app.command(
    rich_help_panel=CHAIN,
    epilog="Example: crosstrain retrain --set source.path=data/animals "
    "--set target.path=data/plants",
)
def retrain(
    overrides: Overrides = None,
    params: Params = paths.PARAMS,
    promote: Annotated[
        bool, typer.Option(help="Register and judge the result, or only report it.")
    ] = True,
    data_rev: Annotated[
        str | None,
        typer.Option(help="Use data/ as of a Git revision, or of an md5 of data.dvc."),
    ] = None,
    budget: Budget = None,
) -> None:
    """Run the chain: validate, split, pretrain, adapt, choose, evaluate, promote, report."""
    with_budget = _with(overrides, budget)
    begin()
    _retrain(params, with_budget, promote=promote, data_rev=data_rev)


def _with(overrides: list[str] | None, budget: str | None) -> list[str]:
    """The overrides, and the budget as one of them.

    Raises:
        SettingsError: the budget is not a time.
    """
    if budget is None:
        return overrides or []
    try:
        durations.seconds(budget)
    except ValueError as error:
        raise SettingsError(f"--budget: {error}") from error
    return [*(overrides or []), f"run.budget={budget}"]


def _retrain(
    params: Path, overrides: list[str], *, promote: bool, data_rev: str | None = None
) -> None:
    from transfer.settings import project as typed

    settings = typed.load(params, overrides)
    from rich.console import Console

    from flows import retrain as chain
    from flows.runtime.run_flow import run
    from tasks.reports.summary import terminal

    result = run(lambda: chain.retrain(settings, promote=promote, data_rev=data_rev))
    terminal(result, Console())


@app.command(rich_help_panel=CHAIN, epilog="Example: crosstrain report")
def report(as_json: AsJson = False) -> None:
    """Show the last run's result, and the path of its page."""
    paths.enter_project()
    file = paths.REPORTS / "retrain.json"
    if not file.exists():
        raise NothingToDoError(f"there is no {file}; run `crosstrain retrain` first")
    if as_json:
        print(file.read_text())
        return
    from pydantic import ValidationError
    from rich.console import Console

    from tasks.reports.summary import terminal
    from transfer.evaluation.report_schema import Result

    try:
        result = Result.model_validate_json(file.read_text())
    except ValidationError as error:
        raise NothingToDoError(
            f"{file} is not a result of this version ({error.error_count()} fields differ); run "
            "`crosstrain retrain` again"
        ) from error
    terminal(result, Console())
