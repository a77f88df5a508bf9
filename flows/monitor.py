"""Tests new data for drift."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.runtime.events import announce
from flows.runtime.hooks import HOOKS
from flows.runtime.notify import emit_and_notify, notify_settings
from tasks.operation import monitor as steps
from tasks.reports.monitor_report import markdown
from transfer.deployment.monitoring.drift import MonitorSettings
from transfer.deployment.monitoring.report import Monitored

DEFAULTS = MonitorSettings()


@flow(name="monitor", flow_run_name="{target}: {folder}", **HOOKS)
def monitor(folder: Path, target: str, settings: MonitorSettings = DEFAULTS) -> Monitored:
    """Compare new data with the reference of the target's champion, and report drift.

    Args:
        folder: new items; an item in a subfolder has the subfolder's name as its label. A .csv,
            .parquet or .npz dataset is accepted, too.
        target: name of the target dataset.
        settings: thresholds for drift, and when to request a retrain.
    """
    observed = steps.look(folder, target, settings)
    report: Monitored = steps.judge(observed, folder, target, settings)
    steps.publish(observed, report)
    create_markdown_artifact(markdown(report), key="drift")
    if report.drift:
        payload = {
            "folder": report.folder,
            "model": report.model,
            "version": report.version,
            "sentence": report.sentence,
            "tests": [test.name for test in report.drifted],
            "p_values": {test.name: test.adjusted for test in report.tests},
            "retrain": report.retrain,
        }
        emit_and_notify("drift", target, payload, notify_settings())
        if report.retrain:
            announce("retrain-wanted", target, payload)
    return report
