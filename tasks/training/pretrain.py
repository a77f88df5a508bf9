"""Train a backbone on a source, or take the stored result."""

from collections.abc import Callable
from pathlib import Path

from tasks.runtime.artifacts import Ref, Source
from tasks.runtime.run_context import RunContext
from tasks.runtime.step import blamed, progress, step
from tasks.store import content_store
from tasks.training import machine as machines
from tasks.training import torchrun
from tasks.training.cancellation import Stop, Stoppable, TimeUpError, check_time
from tasks.training.pretrain_job import Pretraining
from transfer.models.network import backbone_modules


@step("pretrain", tags=["train"])
def pretrain(
    name: str,
    context: RunContext,
    beside: int,
    stop: Stop,
    until: float | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Source | None:
    """Pretrain the backbone on the training split of one dataset, or of several at once; None where
    the time was up before its end.

    Args:
        name: of the pretraining, among those of the context; classes of one name are one class.
        context: what all trainings of the run share.
        beside: how many arms are trained at the same time.
        stop: when set, training stops at the next step.
        until: when the training has to end, in seconds since the epoch; None for no limit.
        on_step: called with (steps done, steps in all); None reports progress on the log.

    Raises:
        Stopped: ``stop`` was set; the training continues from here when it is run again.
        CrosstrainError: training diverged.
    """
    stop.check()
    machines.leave_cores(beside)
    processes = context.settings.run.pretrain_processes
    report_step = on_step or progress(f"pretrain {name}")

    def compute(out: Path) -> None:
        check_time(until)
        work = _described(name, context, out, stop, until)
        with blamed(f"pretrain {name}"):
            if processes > 1:
                torchrun.run(work, processes, machines.threads_each(beside, processes), report_step)
            else:
                work.run(report_step)

    try:
        ref = content_store.computed(address(name, context), compute)
    except TimeUpError:
        return None
    Stoppable(content_store.partial(ref.path)).forget()
    return _source(name, context, ref)


def stored(name: str, context: RunContext) -> Source | None:
    """The source of a pretraining that is stored; None where it has yet to be trained."""
    ref = content_store.lookup(address(name, context))
    return None if ref is None else _source(name, context, ref)


def address(name: str, context: RunContext) -> Path:
    """Where a pretraining is stored, or would be."""
    settings = context.settings
    inputs = {
        f"{key} {i}": digest
        for i, part in enumerate(context.pretrainings[name].values())
        for key, digest in part.inputs().items()
    }
    return content_store.address(
        "pretrain",
        __name__,
        inputs=inputs,
        settings={
            "name": name,
            "pretrain": settings.pretrain.model_dump(mode="json"),
            "backbone": settings.backbone.model_dump(mode="json"),
            "machine": vars(context.machine),
        },
        code=[
            "tasks.training.pretrain_job",
            "transfer.arms.pretrain",
            *backbone_modules(settings.input.modality, settings.backbone.backbone_spec),
        ],
    )


def _described(
    name: str, context: RunContext, out: Path, stop: Stop, until: float | None
) -> Pretraining:
    parts = context.pretrainings[name].values()
    return Pretraining(
        name=name,
        parts=tuple((part.scan.path, part.split.path) for part in parts),
        backbone_spec=context.settings.backbone.backbone_spec,
        settings=context.settings.pretrain,
        device=context.machine.device,
        precision=context.machine.precision,
        out=out,
        checkpoint=content_store.partial(out),
        checkpoint_seconds=context.settings.run.checkpoint_seconds,
        stop=stop.path,
        until=until,
    )


def _source(name: str, context: RunContext, ref: Ref) -> Source:
    parts = context.pretrainings[name]
    if len(parts) > 1:
        return Source(name, ref, None, parts=tuple(parts))
    (items,) = parts.values()
    return Source(name, ref, items)
