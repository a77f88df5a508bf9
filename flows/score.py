"""Batch scoring: predicts a folder of items into a table."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.runtime.hooks import HOOKS
from tasks.operation.score import Scored
from tasks.operation.score import score as score_all


@flow(name="score", flow_run_name="{source} with {target}", **HOOKS)
def score(source: Path, out: Path, target: str, batch: int = 256) -> Scored:
    """Score a folder of any size with the champion; an interrupted run is continued.

    Args:
        source: folder of items at any depth, a manifest with a column path, or an .npz file.
        out: the .parquet file to write at the end.
        target: name of the target dataset, whose champion predicts.
        batch: items that pass through the network at once.
    """
    scored: Scored = score_all(source, out, target, batch)
    create_markdown_artifact(_markdown(scored), key="scores")
    return scored


def _markdown(scored: Scored) -> str:
    lines = [
        f"{scored.rows} items of `{scored.source}` by {scored.model} version {scored.version}, "
        f"in `{scored.out}`.",
        "",
        "| label | items |",
        "|---|---|",
        *(f"| {label} | {count} |" for label, count in scored.labels.items()),
    ]
    if scored.errors:
        lines += ["", "| not scored | items |", "|---|---|"]
        lines += [f"| {reason} | {count} |" for reason, count in scored.errors.items()]
    return "\n".join(lines)
