"""The command line. Imports nothing heavy until a command runs, so that help answers at once."""

import gc
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks import environment, paths
from transfer.errors import CrosstrainError, NothingToDoError
from transfer.files import write_atomic

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
data_app = typer.Typer(help="Write, verify and accept datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting; repeatable."),
]
Params = Annotated[Path, typer.Option("--params", help="The settings file.")]
Target = Annotated[str, typer.Option("--target", help="Name of the target dataset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def main() -> None:
    """Run a command; an error of ours ends it with its message and its exit code.

    Any other error is a failed step too, and shows its traceback.
    """
    try:
        app()
    except CrosstrainError as error:
        print(f"crosstrain: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(CrosstrainError.exit_code)
    finally:
        gc.freeze()  # or Python looks through all objects for garbage as it ends, for 2 s


@app.command(epilog="Example: crosstrain demo")
def demo(overrides: Overrides = None) -> None:
    """Write the two demo datasets and run the whole chain on them."""
    from tasks import demo_data

    paths.enter_project()
    _prepare()
    demo_data.write(paths.DATA)
    _retrain(paths.PARAMS, overrides or [], promote=True)


@app.command(
    epilog="Example: crosstrain retrain --set source.path=data/animals "
    "--set target.path=data/plants"
)
def retrain(
    overrides: Overrides = None,
    params: Params = paths.PARAMS,
    promote: Annotated[
        bool, typer.Option(help="Register and judge the result, or only report it.")
    ] = True,
) -> None:
    """Run the chain: validate, split, pretrain, adapt, choose, evaluate, promote, report."""
    paths.enter_project()
    _retrain(params, overrides or [], promote=promote)


def _prepare() -> None:
    """Let Prefect's server come up while this process imports what it needs."""
    environment.prepare(Path.cwd())
    from flows import server

    server.begin()


def _retrain(params: Path, overrides: list[str], *, promote: bool) -> None:
    _prepare()
    from transfer import settings as typed

    settings = typed.load(params, overrides)
    from rich.console import Console

    from flows.run import run
    from tasks.summary import terminal

    logging.getLogger("crosstrain").setLevel(logging.INFO)
    try:
        terminal(run(settings, promote=promote), Console())
    except KeyboardInterrupt:
        print("crosstrain: interrupted; run again to continue from here", file=sys.stderr)
        sys.exit(130)


@app.command(epilog="Example: crosstrain predict photo.jpg --target digits --json")
def predict(
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    target: Target = "digits",
    as_json: AsJson = False,
) -> None:
    """Predict classes of image files with the champion."""
    files = [file.absolute() for file in files]
    paths.enter_project()
    environment.prepare(Path.cwd())
    from transfer import predict as prediction

    name, champion = _champion(target)
    from tasks import track

    model = prediction.load(track.model_folder(name, champion.version))
    for file in files:
        probabilities = model.predict_files([file])[0].tolist()
        ranked = sorted(zip(probabilities, model.class_names, strict=True), reverse=True)
        if as_json:
            told = {name: round(p, 6) for p, name in ranked}
            line = {"file": str(file), "label": ranked[0][1], "probability": ranked[0][0]}
            print(json.dumps(line | {"probabilities": told, "version": champion.version}))
        else:
            print(f"{file}: {ranked[0][1]} ({100 * ranked[0][0]:.1f} %)")


@app.command(epilog="Example: crosstrain champion --target digits --json")
def champion(target: Target = "digits", as_json: AsJson = False) -> None:
    """Show the champion of a target: version, aliases, figures, data revisions."""
    paths.enter_project()
    environment.prepare(Path.cwd())
    name, found = _champion(target)
    told = {
        "name": name,
        "version": found.version,
        "aliases": found.aliases,
        "figures": found.figures,
        "data": found.data,
        "run": found.run_id,
    }
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for key, value in told.items():
        print(f"{key:9} {value}")


def _champion(target: str) -> tuple[str, Any]:
    from tasks import registry

    name = f"crosstrain-{target}"
    found = registry.champion(name)
    if found is None:
        raise NothingToDoError(
            f"{name} has no champion yet; train one with `crosstrain retrain`, or name another "
            "target with --target"
        )
    return name, found


@app.command(epilog="Example: crosstrain report")
def report(as_json: AsJson = False) -> None:
    """Show the last run's result, and where its page is."""
    paths.enter_project()
    file = paths.REPORTS / "retrain.json"
    if not file.exists():
        raise NothingToDoError(f"there is no {file}; run `crosstrain retrain` first")
    if as_json:
        print(file.read_text())
        return
    from pydantic import ValidationError
    from rich.console import Console

    from tasks.summary import terminal
    from transfer.result import Result

    try:
        result = Result.model_validate_json(file.read_text())
    except ValidationError as error:
        raise NothingToDoError(
            f"{file} is not a result of this version ({error.error_count()} fields differ); run "
            "`crosstrain retrain` again"
        ) from error
    terminal(result, Console())


@app.command(epilog="Example: crosstrain ui --prefect-port 4200 --mlflow-port 5000")
def ui(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Start the UIs of Prefect and MLflow on this machine's loopback; Ctrl-C stops both."""
    paths.enter_project()
    environment.prepare(Path.cwd())
    from flows.ui import serve

    serve(prefect_port, mlflow_port)


@data_app.command(epilog="Example: crosstrain data verify --used-by params.yaml")
def verify(
    datasets: Annotated[
        list[Path] | None, typer.Argument(help="Datasets, instead of all that are recorded.")
    ] = None,
    used_by: Annotated[
        Path | None, typer.Option(help="Verify the datasets that this settings file names.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the md5 of each as JSON here.")] = None,
) -> None:
    """Refuse data that differs from what data.dvc records."""
    paths.enter_project()
    environment.prepare(Path.cwd())
    from tasks import version

    named = [*(datasets or []), *(_datasets(used_by) if used_by else [])]
    told = json.dumps(version.verify_all(paths.DATA_DVC, named), indent=1)
    if out is None:
        print(told)
        return
    write_atomic(out, (told + "\n").encode())


def _datasets(params: Path) -> list[Path]:
    """Every dataset that a settings file names, sources first."""
    from transfer import settings

    found = settings.load(params)
    return [Path(one.path) for one in (*found.sources, found.target)]


@data_app.command(epilog="Example: crosstrain data write")
def write() -> None:
    """Write the demo datasets that are missing from data/."""
    paths.enter_project()
    from tasks import demo_data

    for name in demo_data.write(paths.DATA):
        print(paths.DATA / name)


@data_app.command(epilog="Example: crosstrain data accept")
def accept() -> None:
    """Make data/ as it is the recorded version."""
    paths.enter_project()
    environment.prepare(Path.cwd())
    from tasks import version

    for name, md5 in version.accept(paths.DATA_DVC).items():
        print(f"{name} {md5}")
