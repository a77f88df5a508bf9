"""The chain: datasets in, a judged challenger out."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.decide import decide
from flows.runtime.form import FormSettings
from flows.runtime.hooks import HOOKS
from flows.train import plan_training, train
from tasks.data.augmentation_preview import preview
from tasks.data.data_revision import fetch, resolve
from tasks.data.scan import fingerprint, scan, specify
from tasks.data.split import folds_for, split_source, split_target
from tasks.data.validate_data import validate
from tasks.evaluation.ensemble import choose, compose
from tasks.evaluation.evaluate import evaluate
from tasks.registry import promote as gate
from tasks.reports import publish as reports
from tasks.reports.report_figures import draw
from tasks.reports.summary import markdown
from tasks.runtime.artifacts import Dataset, Divided, Ref
from tasks.runtime.run_context import RunContext
from tasks.runtime.step import timed
from tasks.schedule import time_budget
from tasks.tracking import connection, load_back_check
from tasks.training import machine as machines
from tasks.training import runners
from transfer.core.errors import DataRefusedError
from transfer.evaluation.report_schema import Result
from transfer.settings.project import Settings


@flow(
    name="retrain",
    flow_run_name="{settings.source.label} to {settings.target.label}",
    **HOOKS,
)
def retrain(settings: FormSettings, promote: bool = True, data_rev: str | None = None) -> Result:
    """Retrain the target's model with help from the sources, and promote it if it is better.

    Args:
        settings: what the run depends on, besides data and code.
        promote: false stops before the registry and only reports.
        data_rev: take the datasets in data/ as of this Git revision, or md5 of data.dvc.
    """
    with timed() as watch:
        time_limit = time_budget.begin(settings, promote)
        runners.check(settings.run)
        machine = machines.resolve(settings.run)
        if promote:
            connection.check()
        datasets = _datasets(settings, data_rev)
        spec = specify(settings.input, datasets)
        *scans, scanned = [scan(dataset, spec, settings.input) for dataset in datasets]
        folds = folds_for(scanned, settings)
        sources, target = _split(scans, scanned, folds, settings)
        validated = [
            validate((source.scan, target.scan), (source.split, target.split), settings)
            for source in sources
        ]
        previewed = preview(target, settings.augment)
        by_name = {s.label: source for s, source in zip(settings.sources, sources, strict=True)}
        at_once = machines.workers(settings.run, machine)
        context = RunContext(by_name, target, spec, folds, settings, machine, at_once, time_limit)
        plan = plan_training(context, promote)
        trained = train(plan)
        choice = choose(trained.arms, settings)
        evaluated = evaluate(trained.arms, choice, trained.advice, target, settings)
        model = compose(trained.arms, evaluated, target, datasets, plan.settings)
        if promote and not model.reused:
            load_back_check.start_ahead()
        drawn = draw(evaluated, sources, target, previewed, trained.sources, trained.arms)
        data = reports.describe(datasets, [*sources, target])
        made = reports.RunResults(trained, evaluated, drawn, validated, data, plan.settings)
        run_id, outcome = "", gate.Outcome(None, False, ["promotion was not asked for"], [])
        if promote:
            run_id = reports.log_run(made)
            tags = gate.version_tags(trained.arms, datasets, evaluated)
            version = gate.register(model, run_id, tags, plan.settings)
            record = reports.blessing_record(made, time_budget.report(plan, trained))
            name = gate.model_name(settings)
            outcome = decide(name, version, evaluated.path, datasets[-1], record, plan.settings)
        budget = time_budget.report(plan, trained)
        result: Result = reports.publish(made, outcome, run_id, watch, budget)
        create_markdown_artifact(markdown(result), key="verdict")
        time_budget.remember(trained, watch, settings, promote)
        return result


def _datasets(settings: Settings, data_rev: str | None) -> list[Dataset]:
    """All datasets, the target last, as they are now or were at a revision."""
    used = (*settings.sources, settings.target)
    if data_rev is None:
        return [fingerprint(dataset) for dataset in used]
    revision = resolve(data_rev)
    return [fetch(dataset, revision) for dataset in used]


def _split(
    scans: list[Ref], scanned: Ref, folds: int, settings: Settings
) -> tuple[list[Divided], Divided]:
    """Split all datasets; when one cannot be split, its validation reports all that is wrong."""
    try:
        target = Divided(scanned, split_target(scanned, settings, folds))
        pairs = zip(scans, settings.sources, strict=True)
        return [Divided(s, split_source(s, target, d, folds)) for s, d in pairs], target
    except DataRefusedError:
        for source_scan in scans:
            validate((source_scan, scanned), None, settings)
        raise
