"""Predict new data with the champion, test it for drift, and write the report."""

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
class Observation:
    """New data with the champion's features and predictions, beside its reference data."""

    name: str
    version: int
    model: Predictor
    reference: Reference
    source: NewItems
    observed: Observed


@step("look", tags=["monitor"])
def look(folder: Path, target: str, settings: MonitorSettings) -> Observation:
    """Read new items, and compute the champion's features and predictions of them.

    Raises:
        NothingToDoError: there is no champion, it has no reference data, or there is no file.
        DataRefusedError: there is no dataset, or it is damaged as a whole.
        ModelFileError: the champion cannot be read.
    """
    champion = versions.champion_of(target)
    place = files.model_folder(champion.name, champion.version)
    reference_data, model = reference.load(place), predictor.load(place)
    source = new_data.new_items(folder, model.card)
    observed = new_data.observe(model, source, most=settings.max_items, seed=settings.seed)
    return Observation(champion.name, champion.version, model, reference_data, source, observed)


@step("judge", tags=["monitor"])
def judge(
    observation: Observation, folder: Path, target: str, settings: MonitorSettings
) -> Monitored:
    """Test for drift, and estimate the accuracy.

    Raises:
        NothingToDoError: there are too few files.
    """
    monitored = report.judge(
        observation.reference,
        observation.observed,
        observation.model.class_names,
        settings,
        target=target,
        model=observation.name,
        version=observation.version,
        folder=str(folder),
    )
    log.log(logging.WARNING if monitored.drift else logging.INFO, "%s", monitored.sentence)
    return monitored


@step("monitor report", tags=["monitor", "report"])
def publish(observation: Observation, monitored: Monitored) -> None:
    """Write reports/monitor.html and reports/monitor.json."""
    drawn = monitor_plots.draw(
        monitored, observation.reference, observation.observed, observation.source
    )
    page = monitor_report.render(monitored, drawn)
    write_atomic(paths.REPORTS / "monitor.html", page.encode())
    write_atomic(paths.REPORTS / "monitor.json", monitored.model_dump_json(indent=1).encode())
