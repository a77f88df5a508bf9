"""Predict with the champion, and show which version it is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import MODEL, AsJson, Target, app, enter, show, target_of


@app.command(
    rich_help_panel=MODEL, epilog="Example: crosstrain predict photo.jpg --target digits --json"
)
def predict(
    files: Annotated[list[Path], typer.Argument(help="Files of the items.")],
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Predict classes of files with the champion."""
    files = [file.absolute() for file in files]
    enter()
    from tasks.registry import versions
    from tasks.tracking import files as model_files
    from transfer.models import predictor as prediction

    champion = versions.champion_of(target_of(target))
    model = prediction.load(model_files.model_folder(champion.name, champion.version))
    for file in files:
        probabilities = model.predict_files([file])[0].tolist()
        ranked = sorted(zip(probabilities, model.class_names, strict=True), reverse=True)
        if as_json:
            rounded = {name: round(p, 6) for p, name in ranked}
            line = {"file": str(file), "label": ranked[0][1], "probability": ranked[0][0]}
            print(json.dumps(line | {"probabilities": rounded, "version": champion.version}))
        else:
            print(f"{file}: {ranked[0][1]} ({100 * ranked[0][0]:.1f} %)")


@app.command(rich_help_panel=MODEL, epilog="Example: crosstrain champion --target digits --json")
def champion(target: Target = None, as_json: AsJson = False) -> None:
    """Show the champion of a target: version, aliases, figures, data revisions."""
    enter()
    from tasks.registry import versions

    version = versions.champion_of(target_of(target))
    values = {
        "name": version.name,
        "version": version.version,
        "aliases": version.aliases,
        "figures": version.figures,
        "data": version.data,
        "run": version.run_id,
    }
    show(values, as_json=as_json)
