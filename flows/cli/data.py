"""Write, verify and accept datasets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import DATA, app, enter
from tasks.runtime import paths
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import SettingsError

data_app = typer.Typer(help="Write, verify and accept datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=DATA)


@data_app.command(epilog="Example: crosstrain data verify --used-by params.yaml")
def verify(
    datasets: Annotated[
        list[Path] | None, typer.Argument(help="Datasets to verify, instead of all recorded ones.")
    ] = None,
    used_by: Annotated[
        Path | None, typer.Option(help="Verify the datasets that this settings file names.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the md5 of each as JSON here.")] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="With --used-by: write every setting that results depend on, with its value, and "
            "the version of the installed code, as JSON here."
        ),
    ] = None,
) -> None:
    """Refuse data that differs from what data.dvc records."""
    if settings and not used_by:
        raise SettingsError("--settings needs --used-by FILE: whose settings should it write?")
    enter()
    from tasks.versioning import dataset_versions

    if used_by and settings:
        _write_settings(used_by, settings)
    named = [*(datasets or []), *(_datasets(used_by) if used_by else [])]
    verified = json.dumps(dataset_versions.verify_all(paths.DATA_DVC, named), indent=1)
    if out is None:
        print(verified)
        return
    write_atomic(out, (verified + "\n").encode())


def _write_settings(params: Path, out: Path) -> None:
    """Write what a result depends on besides the data; `dvc repro` compares it."""
    from tasks.store.source_digest import installed_code
    from transfer.settings import project

    tree = {
        "settings": project.load(params).model_dump(
            mode="json", exclude=set(project.OPERATION), by_alias=True
        ),
        "code": installed_code("flows.retrain"),
    }
    write_atomic(out, (json.dumps(tree, indent=1) + "\n").encode())


def _datasets(params: Path) -> list[Path]:
    """Every dataset that a settings file names, sources first."""
    from transfer.settings import project

    settings = project.load(params)
    return [Path(dataset.path) for dataset in (*settings.sources, settings.target)]


@data_app.command(epilog="Example: crosstrain data write")
def write() -> None:
    """Write the demo datasets that are missing from data/."""
    paths.enter_project()
    from tasks.versioning import demo_data

    for name in demo_data.write(paths.DATA):
        print(paths.DATA / name)


@data_app.command(epilog="Example: crosstrain data accept")
def accept() -> None:
    """Record data/ as it is now as the version that runs use."""
    enter()
    from tasks.versioning import dataset_versions

    for name, md5 in dataset_versions.accept(paths.DATA_DVC).items():
        print(f"{name} {md5}")
