"""Choose among the arms on validation, and put the chosen model together."""

import json
from pathlib import Path

import numpy as np

from tasks import store
from tasks.refs import ArmRef, Dataset, Ref
from tasks.step import step
from transfer import adapt, evaluate
from transfer.evaluate import ArmFiles, Choice
from transfer.settings import Settings


def files(arms: list[ArmRef]) -> list[ArmFiles]:
    """Where the arms are stored."""
    return [ArmFiles(a.method, a.seed, a.ref.path, a.steps, a.ref.seconds) for a in arms]


def digests(arms: list[ArmRef]) -> dict[str, str]:
    """Content of each arm by its name."""
    return {f"{arm.method}/{arm.seed}": arm.ref.digest for arm in arms}


def load_choice(ref: Ref) -> Choice:
    """Read what `choose` stored."""
    told = json.loads((ref.path / "choice.json").read_text())
    return Choice(
        told["scheme"],
        np.array(told["weights"]),
        told["scores"],
        told["source_scheme"],
        np.array(told["source_weights"]),
    )


@step("choose", tags=["select"])
def choose(arms: list[ArmRef], datasets: list[Dataset], settings: Settings) -> Ref:
    """Store the choice, and the chosen model as a folder that `transfer.predict` loads."""
    data = {d.name: d.md5 for d in datasets}

    def compute(out: Path) -> None:
        choice = evaluate.choose(files(arms))
        told = {
            "scheme": choice.scheme,
            "weights": choice.weights.tolist(),
            "scores": choice.scores,
            "source_scheme": choice.source_scheme,
            "source_weights": choice.source_weights.tolist(),
            "arms": list(digests(arms)),
        }
        (out / "choice.json").write_text(json.dumps(told, indent=1))
        (out / "model").mkdir()
        adapt.compose(
            [arm.ref.path for arm in arms],
            choice.weights.tolist(),
            out / "model",
            data=data,
            settings_digest=settings.digest(),
        )

    return store.result(
        "choose",
        compute,
        inputs=digests(arms),
        settings={"data": data, "settings": settings.digest()},
        code=["transfer.evaluate", "transfer.adapt"],
    )
