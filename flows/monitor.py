"""New data in, a verdict on drift out."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.runtime.events import announce
from flows.runtime.hooks import HOOKS
from flows.runtime.notify import configured, tell
from tasks.operation import monitor as steps
from tasks.reports.monitor_report import markdown
from transfer.deployment.monitoring.drift import MonitorSettings
from transfer.deployment.monitoring.report import Monitored

DEFAULTS = MonitorSettings()


@flow(name="monitor", flow_run_name="{target}: {folder}", **HOOKS)
def monitor(folder: Path, target: str, settings: MonitorSettings = DEFAULTS) -> Monitored:
    """Hold new data against what the target's champion was made for, and tell of drift.

    Args:
        folder: new items; those in a folder of it have that folder's name as their label. A
            .csv, .parquet or .npz dataset will do, too.
        target: name of the target dataset.
        settings: when new data counts as drifted, and what follows.
    """
    looked = steps.look(folder, target, settings)
    found: Monitored = steps.judge(looked, folder, target, settings)
    steps.publish(looked, found)
    create_markdown_artifact(markdown(found), key="drift")
    if found.drift:
        told = {
            "folder": found.folder,
            "model": found.model,
            "version": found.version,
            "sentence": found.sentence,
            "tests": [test.name for test in found.drifted],
            "p_values": {test.name: test.adjusted for test in found.tests},
            "retrain": found.retrain,
        }
        tell("drift", target, told, configured())
        if found.retrain:
            announce("retrain-wanted", target, told)
    return found
