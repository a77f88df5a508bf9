"""Chooses among the arms by validation, and assembles the chosen model."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.runtime.artifacts import ArmRef, Dataset, Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from tasks.training.arm_files import files
from transfer.arms import adapt
from transfer.data.items import test_items
from transfer.data.manifest import Manifest
from transfer.deployment.monitoring import reference
from transfer.evaluation.report_schema import Evaluation
from transfer.modalities import lookup
from transfer.models import predictor
from transfer.selection import model_selection as library
from transfer.selection.model_selection import Mix, ModelChoice
from transfer.settings.project import Settings


def digests(arms: list[ArmRef]) -> dict[str, str]:
    """Digest of each arm by its name, with whether the arm may be chosen."""
    return {arm.name: f"{arm.ref.digest} {arm.finalist}" for arm in arms}


def load_choice(ref: Ref) -> ModelChoice:
    """Load a choice that `choose` has stored."""
    stored = json.loads((ref.path / "choice.json").read_text())
    return ModelChoice(
        _load_mix(stored["best"]),
        _load_mix(stored["baseline"]),
        stored["scores"],
        _load_mix(stored["source"]),
        {name: _load_mix(mix) for name, mix in stored["by_source"].items()},
        {name: _load_mix(mix) if mix else None for name, mix in stored["without"].items()},
        stored["collapsed"],
    )


def _load_mix(stored: dict[str, Any]) -> Mix:
    return Mix(stored["scheme"], np.array(stored["weights"]))


def _mix_to_dict(mix: Mix) -> dict[str, Any]:
    return {"scheme": mix.scheme, "weights": mix.weights.tolist()}


@step("choose", tags=["select"])
def choose(arms: list[ArmRef], settings: Settings) -> Ref:
    """Store the choice by validation: the best mix, and the best with and without each source."""

    def compute(out: Path) -> None:
        choice = library.choose(files(arms), settings.adapt.validator)
        content = {
            "arms": [arm.name for arm in arms],
            "best": _mix_to_dict(choice.best),
            "scores": choice.scores,
            "source": _mix_to_dict(choice.source),
            "by_source": {name: _mix_to_dict(mix) for name, mix in choice.by_source.items()},
            "without": {n: _mix_to_dict(mix) if mix else None for n, mix in choice.without.items()},
            "baseline": _mix_to_dict(choice.baseline),
            "collapsed": choice.collapsed,
        }
        (out / "choice.json").write_text(json.dumps(content, indent=1))

    return content_store.result(
        "choose",
        compute,
        inputs=digests(arms),
        settings={
            # in order: weights are by position
            "arms": [[arm.name, arm.plan.sources, arm.plan.parts] for arm in arms],
            "validator": settings.adapt.validator,
        },
        code=[
            "transfer.selection.model_selection",
            f"transfer.selection.validators.{settings.adapt.validator}",
        ],
    )


@step("compose", tags=["select"])
def compose(
    arms: list[ArmRef],
    evaluated: Ref,
    target: Divided,
    datasets: list[Dataset],
    settings: Settings,
) -> Ref:
    """Store the chosen model as a folder that `transfer.models.predictor` loads, with its drift
    reference."""
    data = {d.name: d.md5 for d in datasets}

    def compute(out: Path) -> None:
        text = (evaluated.path / "evaluation.json").read_text()
        weights = [arm.weight for arm in Evaluation.model_validate_json(text).arms]
        (out / "model").mkdir()
        adapt.compose(
            [arm.ref.path for arm in arms],
            weights,
            out / "model",
            names=[arm.name for arm in arms],
            data=data,
            settings_digest=settings.digest(),
        )
        reference.save(_reference(out / "model", evaluated, target), out / "model")

    return content_store.result(
        "compose",
        compute,
        inputs={"evaluation": evaluated.digest, **target.inputs(), **digests(arms)},
        settings={
            "data": data,
            "settings": settings.digest(),
            "arms": [arm.name for arm in arms],  # weights are by position
        },
        code=[
            "transfer.arms.adapt",
            "transfer.deployment.monitoring.reference",
            lookup.code(settings.input.modality),
            "transfer.evaluation.report_schema",
        ],
    )


def _reference(model: Path, evaluated: Ref, target: Divided) -> reference.Reference:
    """The drift reference: the finished model on the test split. It is used for no choice."""
    evaluation = Evaluation.model_validate_json((evaluated.path / "evaluation.json").read_text())
    rejects = json.loads((target.scan.path / "rejects.json").read_text())
    return reference.make(
        predictor.load(model),
        test_items(target.scan.path, target.split.path),
        usable=len(Manifest.load(target.scan.path)),
        rejected=reference.broken(reject["reason"] for reject in rejects),
        right=round(evaluation.chosen.accuracy * evaluation.test_items),
    )
