"""Logs the run in MLflow, and writes the reports."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from tasks.evaluation import evaluate
from tasks.registry.promote import Outcome, model_name
from tasks.reports import report, report_figures
from tasks.runtime import paths
from tasks.runtime.artifacts import ArmRef, Dataset, Divided, Ref, TrainedArms
from tasks.runtime.step import Stopwatch, step
from tasks.store.content_store import key
from tasks.tracking import runs
from tasks.versioning.code_revision import code_revision, git_revision
from transfer.core.atomic_files import write_atomic
from transfer.data.manifest import Manifest
from transfer.data.splits import split
from transfer.evaluation.report_schema import (
    Data,
    DatasetRecord,
    Evaluation,
    Result,
    Seconds,
    TimeBudget,
)
from transfer.selection import ensemble as mixing
from transfer.settings.project import Settings
from transfer.training.method import Method


@dataclass(frozen=True)
class RunResults:
    """What a run has made when its model is put together: what is tracked and reported."""

    trained: TrainedArms
    evaluated: Ref
    drawn: Ref
    validated: Sequence[Ref]
    """Of each source with the target."""
    data: Data
    settings: Settings
    """Those that were trained with."""

    @property
    def digests(self) -> dict[str, str]:
        """MD5 of every dataset by its name, the target's last."""
        return {d.name: d.md5 for d in (*self.data.sources, self.data.target)}


@step("track", tags=["tracking"], retries=2, timeout=900)
def log_run(made: RunResults) -> str:
    """Log the run, with a child run for each arm, and return its id; equal runs are logged once."""
    evaluation, data, settings = evaluate.load(made.evaluated), made.data, made.settings
    figures = {k: v for k, v in report.metrics(evaluation).items() if not isinstance(v, str)}
    content = {"settings": settings.digest(), **made.digests}
    return runs.log_run(
        runs.RunRecord(
            key=key("run", {"evaluation": made.evaluated.digest}, content, []),
            name=f"{' and '.join(d.name for d in data.sources)} to {data.target.name}",
            settings=settings.model_dump(mode="json", by_alias=True),
            metrics=figures,
            tags={
                "verdict": evaluation.verdict,
                "settings_digest": settings.digest(),
                "code_revision": code_revision(),
                **({"project_revision": commit} if (commit := git_revision(Path())) else {}),
                **{f"md5.{name}": md5 for name, md5 in made.digests.items()},
            },
            datasets=[
                runs.DatasetUse(d.name, d.path, d.md5, d.items, role)
                for d, role in [*((d, "source") for d in data.sources), (data.target, "target")]
            ],
            arms=_arm_records(made, evaluation),
            artifacts=_artifacts(made),
            seconds=sum(arm.ref.seconds for arm in made.trained.arms),
        )
    )


def _artifacts(made: RunResults) -> dict[str, Path]:
    """The folders and files that are kept with a run, by their place there."""
    pages = zip(made.data.sources, made.validated, strict=True)
    maps = {
        f"transfer_maps/{arm.name.replace('/', '-')}": arm.ref.path / "transfers.json"
        for arm in made.trained.arms
    }
    return {
        "evaluation": made.evaluated.path,
        "plots": made.drawn.path,
        **{f"validation/{dataset.name}": page.path for dataset, page in pages},
        **maps,
    }


def _arm_records(made: RunResults, evaluation: Evaluation) -> list[runs.ArmRecord]:
    """Settings, figures and loss curve of every arm."""
    arms = made.trained.arms
    curves = {c["name"]: c for c in report_figures.curves(list(made.trained.sources), arms)}
    return [
        runs.ArmRecord(
            name=arm.name,
            params={
                "method": arm.plan.method,
                "sources": list(arm.plan.sources),
                "seed": arm.seed,
                **_method(arm, made.settings).model_dump(mode="json"),
            },
            metrics={
                **(
                    {}
                    if arm_result.validation is None
                    else {"validation_accuracy": arm_result.validation}
                ),
                "test_accuracy": arm_result.test,
                "temperature": arm_result.temperature,
                "weight": arm_result.weight,
                "steps": arm_result.steps,
            },
            history={"step": curves[arm.name]["step"], "loss": curves[arm.name]["loss"]},
            seconds=arm.ref.seconds,
        )
        for arm, arm_result in zip(arms, evaluation.arms, strict=True)
    ]


def _method(arm: ArmRef, settings: Settings) -> Method:
    method: Method = arm.plan.tuned or getattr(settings.methods, arm.plan.method)
    return method


def describe(datasets: list[Dataset], divided: list[Divided]) -> Data:
    """Paths, versions and sizes of the datasets of this run."""
    *sources, target = (_describe(*pair) for pair in zip(datasets, divided, strict=True))
    return Data(sources=sources, target=target)


def _describe(dataset: Dataset, divided: Divided) -> DatasetRecord:
    manifest = Manifest.load(divided.scan.path)
    table = split.load(divided.split.path, manifest)
    counts = table["split"].value_counts()
    return DatasetRecord(
        name=dataset.name,
        path=dataset.path.as_posix(),
        md5=dataset.md5,
        items=len(manifest),
        rejects=len(json.loads((divided.scan.path / "rejects.json").read_text())),
        classes=list(manifest.class_names),
        train=int(counts.get("train", 0)),
        labelled=int(table["labelled"].sum()),
        val=int(counts.get("val", 0)),
        test=int(counts.get("test", 0)),
        excluded=int(counts.get("excluded", 0)),
        revision=dataset.revision,
    )


@step("report", tags=["report"])
def publish(
    made: RunResults,
    outcome: Outcome,
    run_id: str,
    watch: Stopwatch,
    budget: TimeBudget | None = None,
) -> Result:
    """Write reports/: the page for people, JSON for machines, figures and curves for DVC.

    Args:
        made: what the run has made.
        outcome: what was decided about the registry.
        run_id: of the tracked run; empty where it was not tracked.
        watch: how long each step took.
        budget: what became of the time budget; None where there was none.
    """
    evaluation = evaluate.load(made.evaluated)
    result = _result(made, evaluation, outcome, run_id, watch, budget)
    links = {
        f"Validation of {dataset.name} and {made.data.target.name}": _copy_validation_page(
            page, dataset.name
        )
        for dataset, page in zip(made.data.sources, made.validated, strict=True)
    }
    page = report.render(result, report_figures.load(made.drawn), links=links)
    curves = report_figures.curves(list(made.trained.sources), made.trained.arms)
    _write_figures(evaluation, made.evaluated, curves)
    write_atomic(paths.REPORTS / "retrain.html", page.encode())
    write_atomic(paths.REPORTS / "retrain.json", result.model_dump_json(indent=1).encode())
    return result


def _result(
    made: RunResults,
    evaluation: Evaluation,
    outcome: Outcome,
    run_id: str,
    watch: Stopwatch,
    budget: TimeBudget | None,
) -> Result:
    seconds = {arm.name: arm.ref.seconds for arm in made.trained.arms}
    arms = [
        arm.model_copy(update={"seconds": seconds[f"{arm.group}/{arm.seed}"]})
        for arm in evaluation.arms
    ]
    return Result(
        **evaluation.model_copy(update={"arms": arms}).model_dump(),
        promoted=outcome.promoted,
        reasons=outcome.reasons,
        rules=outcome.rules,
        model=model_name(made.settings),
        version=outcome.version,
        mlflow_run=run_id,
        data=made.data,
        seconds=Seconds(
            total=round(watch.total(), 2),
            between=round(watch.between(), 2),
            steps=watch.seconds(),
            reused=watch.reused(),
        ),
        budget=budget,
        settings_digest=made.settings.digest(),
        code_revision=code_revision(),
    )


def _copy_validation_page(validated: Ref, source: str) -> str:
    page = validated.path / "data_docs" / "index.html"
    copy = paths.REPORTS / "validation" / f"{source}.html"
    write_atomic(copy, page.read_bytes())
    return copy.relative_to(paths.REPORTS).as_posix()


def _write_figures(
    evaluation: Evaluation, evaluated: Ref, curves: list[report_figures.Curve]
) -> None:
    weights = np.array([arm.weight for arm in evaluation.arms])
    with np.load(evaluated.path / "predictions.npz", allow_pickle=False) as stored:
        mixed = mixing.combine(stored["probabilities"], weights)
        labels = stored["labels"]
    for name, text in report.plots(evaluation, labels, mixed.argmax(1), curves).items():
        write_atomic(paths.REPORTS / "plots" / name, text.encode())
    metrics_text = json.dumps(report.metrics(evaluation), indent=1) + "\n"
    write_atomic(paths.REPORTS / "metrics.json", metrics_text.encode())


def blessing_record(made: RunResults, budget: TimeBudget | None = None) -> dict[str, object]:
    """The basis of a blessing besides the rules: revisions, digests, figures and verdict."""
    evaluation, settings = evaluate.load(made.evaluated), made.settings
    datasets = (*made.data.sources, made.data.target)
    return {
        "data": made.digests,
        "data_revision": {d.name: d.revision for d in datasets if d.revision},
        "code_revision": code_revision(),
        "settings_digest": settings.digest(),
        "settings": yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)),
        "verdict": evaluation.verdict,
        "figures": report.metrics(evaluation),
        "chosen": evaluation.chosen.model_dump(),
        **({} if budget is None else {"budget": _without_times(budget)}),
    }


def _without_times(budget: TimeBudget) -> dict[str, object]:
    """The effect of a time budget for the record, without measured times."""
    return budget.model_dump(exclude={"spent"})
