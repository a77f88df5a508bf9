"""Score a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import MODEL, AsJson, Target, app, begin, target_of

if TYPE_CHECKING:
    from tasks.operation.score import Scored

Source = Annotated[
    Path,
    typer.Argument(
        metavar="IN", help="A folder at any depth, a manifest with a column path, or an .npz file."
    ),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The .parquet file to write.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Items at once.")]


@app.command(
    rich_help_panel=MODEL, epilog="Example: crosstrain score photos scores.parquet --target digits"
)
def score(
    source: Source, out: Out, target: Target = None, batch: Batch = 256, as_json: AsJson = False
) -> None:
    """Score a folder of any size with the champion; run again to continue an interrupted run."""
    source, out = source.absolute(), out.absolute()
    begin()
    name = target_of(target)
    from flows import score as scoring
    from flows.runtime.run_flow import run

    _show(run(lambda: scoring.score(source, out, name, batch)), as_json=as_json)


def _show(scored: "Scored", *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps(asdict(scored), indent=1))
        return
    effort = scored.effort
    done = scored.rows - scored.reused
    print(f"{scored.rows} items scored by {scored.model} version {scored.version}: {scored.out}")
    print(f"{done} items in {scored.seconds:.1f} s ({done / scored.seconds:.0f} a second)")
    print(
        f"network {effort.network:.1f} s, waited for files {effort.waiting:.1f} s; "
        f"decoding beside it {effort.decoding:.1f} s"
    )
    for reason, count in scored.errors.items():
        print(f"not scored: {count} {reason}")
