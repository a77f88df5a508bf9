"""Train the arms: every method with every seed on the target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.runtime.artifacts import ArmRef, Source
from tasks.runtime.run_context import RunContext
from tasks.runtime.step import blamed, progress, step
from tasks.store import content_store
from tasks.training import machine as machines
from tasks.training.cancellation import Stop, Stoppable, TimeUpError, check_time
from tasks.training.source_items import source_items, source_modules
from transfer.arms import adapt as library
from transfer.arms import pretrain as pretrained
from transfer.arms.plan import ArmPlan
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
from transfer.models.checkpoint import Keeper, load_card
from transfer.models.network import backbone_modules
from transfer.models.predictor import Card
from transfer.settings.project import Settings
from transfer.training.feature_cache import Features
from transfer.training.method import Method
from transfer.training.recipe import Recipe


@dataclass(frozen=True)
class ArmJob:
    """One arm to train."""

    plan: ArmPlan
    seed: int
    """Of weights, folds, order and augmentation."""
    sources: tuple[Source, ...] = ()
    """What the plan names, in its order."""

    @classmethod
    def of(cls, plan: ArmPlan, seed: int, sources: Sequence[Source]) -> "ArmJob":
        """The arm of a plan; ``sources`` are at least those that the plan names."""
        by_name = {source.name: source for source in sources}
        return cls(plan, seed, tuple(by_name[name] for name in plan.sources))

    @property
    def name(self) -> str:
        """The plan's label and the seed."""
        return f"{self.plan.label}/{self.seed}"

    def method(self, settings: Settings) -> Method:
        """The method with its settings: those that a search chose, or those of the project."""
        method: Method = self.plan.tuned or getattr(settings.methods, self.plan.method)
        return method


@step("adapt", tags=["train"])
def adapt(
    job: ArmJob,
    context: RunContext,
    stop: Stop,
    features: Features,
    until: float | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> ArmRef | None:
    """Train one arm, or take the stored result; None if the time was up before its end.

    Args:
        job: the arm.
        context: what all arms of the run share.
        stop: when set, training stops at the next step.
        features: of frozen backbones, shared by the arms of a run.
        until: when the training has to end, in seconds since the epoch; None for no limit.
        on_step: called with (steps done, steps in all); None reports progress on the log.

    Raises:
        Stopped: ``stop`` was set; the training continues from here when it is run again.
        CrosstrainError: training diverged.
    """
    stop.check()
    machines.share_cores(context.arms_at_once)

    def compute(out: Path) -> None:
        check_time(until)
        with blamed(f"adapt {job.name}"):
            _train(
                job,
                context,
                features,
                out,
                partial(_keeper, out, context.settings.run.checkpoint_seconds, stop, until),
                on_step or progress(f"adapt {job.name}"),
            )

    try:
        ref = content_store.computed(address(job, context), compute)
    except TimeUpError:
        return None
    checkpoints = content_store.partial(ref.path)
    for kept in checkpoints.parent.glob(f"{checkpoints.name}.*"):
        kept.unlink()
    return ArmRef(job.plan, job.seed, load_card(ref.path, Card).members[0].steps, ref)


def address(job: ArmJob, context: RunContext) -> Path:
    """Where an arm is stored, or would be; `content_store.lookup` tests whether it is."""
    method = job.method(context.settings)
    return content_store.address(
        "adapt",
        __name__,
        inputs=context.target.inputs() | _source_inputs(method, job.sources, not context.labelled),
        settings={
            "seed": job.seed,
            "folds": context.folds,
            "machine": vars(context.machine),
            **_method_settings(job.plan.method, method, context.settings),
        },
        code=_code(job, context.settings),
    )


def _train(
    job: ArmJob,
    context: RunContext,
    features: Features,
    out: Path,
    keeper: Callable[[int, int], Keeper],
    on_step: Callable[[int, int], None],
) -> None:
    """Train an arm, and write it to ``out``."""
    settings, method = context.settings, job.method(context.settings)
    target = _target(context, method, job.sources, features)
    recipe = Recipe(
        settings.adapt.training,
        settings.augment,
        normalisation(target.labelled if len(target.labelled) else _pool(target), context.spec),
        len(target.class_names),
        context.machine,
        settings.pretrain.augment,
        spec=context.spec,
    )
    arm = library.adapt(
        job.plan.method,
        method,
        [pretrained.load(source.knowledge.path) for source in job.sources],
        target,
        recipe,
        seed=job.seed,
        keeper=keeper,
        on_step=on_step,
    )
    library.save(arm, target, out)


def _source_inputs(method: Method, sources: Sequence[Source], blind: bool) -> dict[str, str]:
    """What the arm reads of its sources; all of it where no item of the target is labelled."""
    inputs = {f"knowledge {i}": source.knowledge.digest for i, source in enumerate(sources)}
    if (method.reads_source or blind) and (items := sources[0].items):
        inputs |= {f"source {key}": digest for key, digest in items.inputs().items()}
    return inputs


def _method_settings(name: str, method: Method, settings: Settings) -> dict[str, Any]:
    section_values = {
        "method": {name: method.model_dump(mode="json")},
        "training": settings.adapt.training.model_dump(mode="json"),
        "augment": settings.augment.model_dump(mode="json"),
        "backbone": settings.backbone.model_dump(mode="json"),
        "limits": settings.input.limits.model_dump(mode="json"),  # they go into the model's card
    }
    if method.reads_source:
        section_values["source augment"] = settings.pretrain.augment.model_dump(mode="json")
    return section_values


def _code(job: ArmJob, settings: Settings) -> list[str]:
    modality = settings.input.modality
    own = backbone_modules(modality, settings.backbone.backbone_spec)
    return [
        "transfer.arms.adapt",
        "tasks.training.source_items",
        lookup.module_name(job.plan.method),
        *sorted({*own, *source_modules(job.sources, modality)}),
    ]


def _keeper(
    place: Path, seconds: float, stop: Stop, until: float | None, fold: int, phase: int
) -> Keeper:
    path = content_store.partial(place).with_name(
        f"{content_store.partial(place).name}.{fold}.{phase}"
    )
    return Stoppable(path, seconds, stop=stop, until=until)


def _target(
    context: RunContext, method: Method, sources: Sequence[Source], features: Features
) -> Target:
    scanned, divided = context.target.scan.path, context.target.split.path
    settings, folds, blind = context.settings, context.folds, not context.labelled
    return Target(
        name=settings.target.label,
        class_names=Manifest.load(scanned).class_names,
        labelled=labelled_items(scanned, divided),
        validation=None if folds or blind else validation_items(scanned, divided),
        folds=folds,
        spec=context.spec,
        limits=settings.input.limits,
        backbone_spec=settings.backbone.backbone_spec,
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
