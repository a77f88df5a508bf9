"""Export the champion for machines without torch and crosstrain."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.app import MODEL, AsJson, Overrides, Params, Target, app, begin, target_of
from tasks.runtime import paths


@app.command(
    rich_help_panel=MODEL, epilog="Example: crosstrain export --format onnx-int8 --target digits"
)
def export(
    format: Annotated[
        Literal["onnx", "onnx-int8", "tflite"], typer.Option(help="onnx-int8 is 8-bit.")
    ] = "onnx",
    target: Target = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the file; exports/TARGET unless named.")
    ] = None,
    changed_data: Annotated[
        bool,
        typer.Option(
            "--changed-data",
            help="Measure on the target as it is, though the champion was made from another "
            "version of it.",
        ),
    ] = False,
    overrides: Overrides = None,
    params: Params = paths.PARAMS,
    as_json: AsJson = False,
) -> None:
    """Write the champion as one file, measured on the test split; refuse a file that loses much."""
    place = out.absolute() if out else None
    begin()
    name = target_of(target, params)
    from flows import export as flow
    from flows.runtime.run_flow import run
    from tasks.operation.export import default_place
    from transfer.deployment.export.export import page
    from transfer.settings import project as typed

    settings = typed.load(params, overrides or [])
    report = run(lambda: flow.export(name, settings, format, place, changed_data))
    if as_json:
        print(report.model_dump_json(indent=1))
        return
    print(page(report))
    print((place or default_place(name)) / report.file)
