"""Exports the champion as one file for another runtime, after measuring it."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.runtime.form import FormSettings
from flows.runtime.hooks import HOOKS
from tasks.operation import export as edge
from transfer.deployment.export.export import Format, Report, page


@flow(name="export", flow_run_name="{target} as {format}", **HOOKS)
def export(
    target: str,
    settings: FormSettings,
    format: Format = "onnx",
    out: Path | None = None,
    changed_data: bool = False,
) -> Report:
    """Write a target's champion in another format, unless it loses too much on the test split.

    Args:
        target: name of the target dataset.
        settings: settings of exports; the path of the target, if its name is the same.
        format: onnx, onnx-int8 (8-bit, smaller and faster) or tflite.
        out: folder for the file and its report; by default exports/ and the target's name.
        changed_data: measure on the current data, although the champion was trained on other data.
    """
    edge.check(format, settings)
    subject = edge.champion(target)
    divided = edge.divide(subject, settings, changed_data=changed_data)
    converted = edge.convert(subject, divided, format, settings)
    place = out or edge.default_place(target)
    report: Report = edge.place(converted, place, settings.export.margin)
    edge.record(subject, report, place)
    create_markdown_artifact(page(report), key=f"export-{format}")
    return report
