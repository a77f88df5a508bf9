"""Read the test split, once per model, and put the figures together."""

from pathlib import Path

import numpy as np

from tasks import advise, store
from tasks import machine as machines
from tasks.ensemble import digests, files, load_choice
from tasks.refs import ArmRef, Divided, Ref
from tasks.step import step
from transfer import evaluate as library
from transfer.arrays import test_items
from transfer.result import Evaluation
from transfer.sample import Manifest
from transfer.settings import Settings


@step("evaluate", tags=["evaluate"])
def evaluate(
    arms: list[ArmRef], choice: Ref, advised: Ref, target: Divided, settings: Settings
) -> Ref:
    """Store ``evaluation.json`` and every arm's test predictions."""
    told = {
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
    return store.result(
        "evaluate",
        compute,
        inputs=inputs | digests(arms),
        settings=told,
        code=["transfer.evaluate", f"transfer.validators.{settings.adapt.validator}"],
    )


def load(ref: Ref) -> Evaluation:
    """Read what `evaluate` stored."""
    return Evaluation.model_validate_json((ref.path / "evaluation.json").read_text())
