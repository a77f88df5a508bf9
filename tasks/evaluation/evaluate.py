"""Reads the test split, once per model, and computes the figures."""

from pathlib import Path

import numpy as np

from tasks.evaluation.ensemble import digests, load_choice
from tasks.runtime.artifacts import ArmRef, Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from tasks.training import advise
from tasks.training import machine as machines
from tasks.training.arm_files import files
from transfer.data.items import test_items
from transfer.data.manifest import Manifest
from transfer.evaluation import evaluate as library
from transfer.evaluation.report_schema import Evaluation
from transfer.modalities import lookup
from transfer.settings.project import Settings


@step("evaluate", tags=["evaluate"])
def evaluate(
    arms: list[ArmRef], choice: Ref, advised: Ref, target: Divided, settings: Settings
) -> Ref:
    """Store ``evaluation.json`` and every arm's test predictions."""
    parts = {
        "evaluate": settings.evaluate.model_dump(mode="json"),
        # in order: predictions are by position
        "arms": [[arm.name, arm.plan.sources, arm.plan.parts] for arm in arms],
        "labels_per_class": settings.target.labels_per_class,
        "validator": settings.adapt.validator,
    }

    def compute(out: Path) -> None:
        manifest = Manifest.load(target.scan.path)
        items = test_items(target.scan.path, target.split.path)
        probabilities = library.test_probabilities(files(arms), items, machines.cores())
        evaluation = library.evaluate(
            files(arms),
            load_choice(choice),
            probabilities,
            items.labels.numpy(),
            target=manifest.name,
            class_names=manifest.class_names,
            labels_per_class=settings.target.labels_per_class,
            validator=settings.adapt.validator,
            settings=settings.evaluate,
            advice=advise.load(advised),
        )
        np.savez(
            out / "predictions.npz",
            ids=items.ids,
            labels=items.labels.numpy(),
            probabilities=probabilities,
        )
        (out / "evaluation.json").write_text(evaluation.model_dump_json(indent=1))

    inputs = target.inputs() | {"choice": choice.digest, "advice": advised.digest}
    return content_store.result(
        "evaluate",
        compute,
        inputs=inputs | digests(arms),
        settings=parts,
        code=[
            "transfer.evaluation.evaluate",
            lookup.code(settings.input.modality),
            f"transfer.selection.validators.{settings.adapt.validator}",
        ],
    )


def load(ref: Ref) -> Evaluation:
    """Load an evaluation that `evaluate` has stored."""
    return Evaluation.model_validate_json((ref.path / "evaluation.json").read_text())
