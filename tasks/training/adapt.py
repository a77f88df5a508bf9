"""Train the arms: every method with every seed on the target."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tasks.runtime.artifacts import ArmRef, Divided, Source
from tasks.runtime.step import blamed, progress, step
from tasks.store import content_store
from tasks.training import machine as machines
from tasks.training.cancellation import Stop, Stoppable, TimeUpError, check_time
from tasks.training.source_items import bodies, source_items
from transfer.arms import adapt as library
from transfer.arms import pretrain as pretrained
from transfer.arms.plan import Plan
from transfer.arms.trainer import Target
from transfer.data.items import (
    PoolItems,
    labelled_items,
    normalisation,
    pool_items,
    validation_items,
)
from transfer.data.manifest import Manifest
from transfer.methods import lookup
from transfer.modalities.interface import InputSpec
from transfer.models.checkpoint import Keeper, load_card
from transfer.models.network import backbone_modules
from transfer.models.predictor import Card
from transfer.settings.project import Settings
from transfer.training.feature_cache import Features
from transfer.training.method import Method
from transfer.training.recipe import Machine, Recipe


@step("adapt", tags=["train"])
def adapt(
    plan: Plan,
    seed: int,
    target: Divided,
    spec: InputSpec,
    settings: Settings,
    machine: Machine,
    folds: int,
    at_once: int,
    stop: Stop,
    features: Features,
    sources: Sequence[Source] = (),
    until: float | None = None,
) -> ArmRef | None:
    """Train one arm, or take the one that is stored; None where the time was up before its end.

    Args:
        plan: the method, and the names of what it transfers from.
        seed: of weights, folds, order and augmentation.
        target: items to learn from.
        spec: of the records.
        settings: of the method, its optimisation and the augmentation.
        machine: where to compute.
        folds: within the labelled items; 0 selects on the validation split.
        at_once: arms that are trained at the same time.
        stop: when set, training stops at the next step.
        features: of frozen bodies, shared by the arms of a run.
        sources: at least those that the plan names.
        until: when the training has to end, in seconds since the epoch; None lets it go on.

    Raises:
        Stopped: ``stop`` was set; the training continues from here when it is run again.
    """
    stop.check()
    machines.share_cores(at_once)
    name, method = plan.method, plan.tuned or getattr(settings.methods, plan.method)
    sources = [one for wanted in plan.sources for one in sources if one.name == wanted]
    arm_name = f"{plan.label}/{seed}"

    def compute(out: Path) -> None:
        check_time(until)
        shared = _target(target, sources, method, spec, settings, folds, features)
        recipe = Recipe(
            settings.adapt.training,
            settings.augment,
            normalisation(shared.labelled if len(shared.labelled) else _pool(shared), spec),
            len(shared.class_names),
            machine,
            settings.pretrain.augment,
            spec=spec,
        )
        with blamed(f"adapt {arm_name}"):
            arm = library.adapt(
                name,
                method,
                [pretrained.load(one.knowledge.path) for one in sources],
                shared,
                recipe,
                seed=seed,
                keeper=partial(_keeper, out, settings.run.checkpoint_seconds, stop, until),
                on_step=progress(f"adapt {arm_name}"),
            )
        library.save(arm, shared, out)

    try:
        ref = content_store.result(
            "adapt",
            compute,
            inputs=target.inputs() | _read(method, sources, settings.target.labels_per_class == 0),
            settings={
                "seed": seed,
                "folds": folds,
                "machine": vars(machine),
                **_told(name, method, settings),
            },
            code=_code(plan, settings, sources),
        )
    except TimeUpError:
        return None
    for kept in content_store.partial(ref.path).parent.glob(
        f"{content_store.partial(ref.path).name}.*"
    ):
        kept.unlink()
    return ArmRef(plan, seed, load_card(ref.path, Card).members[0].steps, ref)


def _read(method: Method, sources: Sequence[Source], blind: bool) -> dict[str, str]:
    """What the arm reads of its sources; all of it where no item of the target is labelled."""
    inputs = {f"knowledge {i}": one.knowledge.digest for i, one in enumerate(sources)}
    if (method.reads_source or blind) and (items := sources[0].items):
        inputs |= {f"source {key}": digest for key, digest in items.inputs().items()}
    return inputs


def _told(name: str, method: Method, settings: Settings) -> dict[str, Any]:
    told = {
        "method": {name: method.model_dump(mode="json")},
        "training": settings.adapt.training.model_dump(mode="json"),
        "augment": settings.augment.model_dump(mode="json"),
        "backbone": settings.backbone.model_dump(mode="json"),
        "limits": settings.input.limits.model_dump(mode="json"),  # they go into the model's card
    }
    if method.reads_source:
        told["source augment"] = settings.pretrain.augment.model_dump(mode="json")
    return told


def _code(plan: Plan, settings: Settings, sources: Sequence[Source]) -> list[str]:
    modality = settings.input.modality
    return [
        "transfer.arms.adapt",
        "tasks.training.source_items",
        lookup.module_name(plan.method),
        *sorted(
            {
                *backbone_modules(modality, settings.backbone.body),
                *bodies(sources, modality),
            }
        ),
    ]


def _keeper(
    place: Path, seconds: float, stop: Stop, until: float | None, fold: int, phase: int
) -> Keeper:
    path = content_store.partial(place).with_name(
        f"{content_store.partial(place).name}.{fold}.{phase}"
    )
    return Stoppable(path, seconds, stop=stop, until=until)


def _target(
    target: Divided,
    sources: Sequence[Source],
    method: Method,
    spec: InputSpec,
    settings: Settings,
    folds: int,
    features: Features,
) -> Target:
    scanned, divided = target.scan.path, target.split.path
    blind = settings.target.labels_per_class == 0
    return Target(
        name=settings.target.label,
        class_names=Manifest.load(scanned).class_names,
        labelled=labelled_items(scanned, divided),
        validation=None if folds or blind else validation_items(scanned, divided),
        folds=folds,
        spec=spec,
        limits=settings.input.limits,
        body=settings.backbone.body,
        pool=pool_items(scanned, divided, with_val=blind or folds > 0)
        if method.reads_pool or blind
        else None,
        source=source_items(sources[0]) if method.reads_source or blind else None,
        source_held=source_items(sources[0], held=True) if blind else None,
        features=features,
    )


def _pool(target: Target) -> PoolItems:
    assert target.pool is not None
    return target.pool
