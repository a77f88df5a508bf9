"""Look at new data with the champion, judge it, and write the report."""

import logging
from dataclasses import dataclass
from pathlib import Path

from tasks.registry import versions
from tasks.reports import monitor_plots, monitor_report
from tasks.runtime import paths
from tasks.runtime.step import log, step
from tasks.tracking import files
from transfer.core.atomic_files import write_atomic
from transfer.deployment.monitoring import new_data, reference, report
from transfer.deployment.monitoring.drift import MonitorSettings
from transfer.deployment.monitoring.new_data import NewItems, Observed
from transfer.deployment.monitoring.reference import Reference
from transfer.deployment.monitoring.report import Monitored
from transfer.models import predictor
from transfer.models.predictor import Predictor


@dataclass(frozen=True)
class Looked:
    """New data as the champion sees it, beside what it was made for."""

    name: str
    version: int
    model: Predictor
    reference: Reference
    source: NewItems
    observed: Observed


@step("look", tags=["monitor"])
def look(folder: Path, target: str, settings: MonitorSettings) -> Looked:
    """Read new items, and let the champion look at them.

    Raises:
        NothingToDoError: there is no champion, it is too old to be monitored, or there is no file.
        DataRefusedError: there is no dataset, or it is damaged as a whole.
        ModelFileError: the champion cannot be read.
    """
    champion = versions.champion_of(target)
    place = files.model_folder(champion.name, champion.version)
    known, model = reference.load(place), predictor.load(place)
    source = new_data.new_items(folder, model.card)
    observed = new_data.observe(model, source, most=settings.max_items, seed=settings.seed)
    return Looked(champion.name, champion.version, model, known, source, observed)


@step("judge", tags=["monitor"])
def judge(looked: Looked, folder: Path, target: str, settings: MonitorSettings) -> Monitored:
    """Test for drift, and estimate the accuracy.

    Raises:
        NothingToDoError: there are too few files.
    """
    found = report.judge(
        looked.reference,
        looked.observed,
        looked.model.class_names,
        settings,
        target=target,
        model=looked.name,
        version=looked.version,
        folder=str(folder),
    )
    log.log(logging.WARNING if found.drift else logging.INFO, "%s", found.sentence)
    return found


@step("monitor report", tags=["monitor", "report"])
def publish(looked: Looked, found: Monitored) -> None:
    """Write reports/monitor.html and reports/monitor.json."""
    drawn = monitor_plots.draw(found, looked.reference, looked.observed, looked.source)
    page = monitor_report.render(found, drawn)
    write_atomic(paths.REPORTS / "monitor.html", page.encode())
    write_atomic(paths.REPORTS / "monitor.json", found.model_dump_json(indent=1).encode())
