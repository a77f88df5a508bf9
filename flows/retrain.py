"""The chain: two datasets in, a judged challenger out."""

from threading import Event
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from tasks import machine as machines
from tasks import promote as gate
from tasks import publish as reports
from tasks.adapt import adapt, names, uses_source
from tasks.augment import preview
from tasks.check import validate
from tasks.draw import draw
from tasks.ensemble import choose
from tasks.evaluate import evaluate
from tasks.pretrain import pretrain
from tasks.refs import ArmRef, Divided, Ref
from tasks.scan import fingerprint, scan, specify
from tasks.split import folds_for, split_source, split_target
from tasks.step import timed
from tasks.summary import markdown
from transfer.errors import DataRefusedError
from transfer.modalities.image.spec import ImageSpec
from transfer.recipe import Machine
from transfer.result import Result
from transfer.settings import Settings


@flow(name="retrain", flow_run_name="{settings.source.label} to {settings.target.label}")
def retrain(settings: Settings, promote: bool = True) -> Result:
    """Retrain the target's model with help from the source, and promote it if it is better.

    Args:
        settings: everything in params.yaml.
        promote: false stops before the registry and only reports.
    """
    with timed() as watch:
        machine = machines.resolve(settings.run)
        datasets = fingerprint(settings.source), fingerprint(settings.target)
        spec = specify(settings.image, list(datasets))
        scans = scan(datasets[0], spec, settings.image), scan(datasets[1], spec, settings.image)
        folds = folds_for(scans[1], settings)
        source, target = _split(scans, folds, settings)
        validated = validate(scans, (source.split, target.split), settings)
        previewed = preview(target, settings.augment)
        knowledge, arms = _train(source, target, spec, folds, settings, machine)
        choice = choose(arms, list(datasets), settings)
        evaluated = evaluate(arms, choice, target, settings)
        pictures = draw(evaluated, source, target, previewed, knowledge, arms)
        data = reports.describe(datasets, (source, target))
        run_id, outcome = "", gate.Outcome(None, False, ["promotion was not asked for"], [])
        if promote:
            run_id = reports.log_run(
                evaluated, pictures, validated, knowledge, arms, data, settings
            )
            tags = gate.version_tags(arms, list(datasets), evaluated)
            version = gate.register(choice, run_id, tags, settings)
            record = reports.blessing_record(data, settings, evaluated)
            outcome = gate.promote(version, choice, evaluated, datasets[1], record, settings)
        result: Result = reports.publish(
            evaluated,
            choice,
            pictures,
            validated,
            knowledge,
            arms,
            data,
            outcome,
            run_id,
            watch,
            settings,
        )
        create_markdown_artifact(markdown(result), key="verdict")
        return result


def _split(scans: tuple[Ref, Ref], folds: int, settings: Settings) -> tuple[Divided, Divided]:
    """Split both datasets; a dataset that cannot be split is validated all the same, so that
    what is wrong with it is told in full."""
    try:
        target = Divided(scans[1], split_target(scans[1], settings, folds))
        source = split_source(scans[0], target, settings.source, folds)
    except DataRefusedError:
        validate(scans, None, settings)
        raise
    return Divided(scans[0], source), target


def _train(
    source: Divided,
    target: Divided,
    spec: ImageSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
) -> tuple[Ref, list[ArmRef]]:
    """Pretrain on the source and train every method with every seed, several at once where that
    is faster: the arms from scratch beside the pretraining, the others after it.

    When one fails or the run is interrupted, the others stop at their next step.
    """
    at_once, stop = machines.workers(settings.run, machine), Event()
    told = {"settings": settings, "machine": machine, "stop": stop}
    alone = {"target": target, "spec": spec, "folds": folds, "at_once": at_once, **told}
    with ThreadPoolTaskRunner[Any](max_workers=at_once) as runner:
        beside = min(len(settings.adapt.seeds), at_once - 1)
        knowledge = runner.submit(pretrain, {"source": source, "beside": beside, **told})
        helped = {**alone, "sources": [knowledge]}
        arms = [
            runner.submit(
                adapt, {"name": name, "seed": seed, **(helped if uses_source(name) else alone)}
            )
            for name in names(settings)
            for seed in settings.adapt.seeds
        ]
        try:
            for done in as_completed([knowledge, *arms]):
                done.result()
        except BaseException:
            stop.set()
            raise
        return knowledge.result(), [arm.result() for arm in arms]
