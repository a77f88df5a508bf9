"""Train a body on a source, or take the one that is stored."""

from collections.abc import Mapping
from pathlib import Path

from tasks.runtime.artifacts import Divided, Source
from tasks.runtime.step import blamed, progress, step
from tasks.store import content_store
from tasks.training import machine as machines
from tasks.training import torchrun
from tasks.training.cancellation import Stop, Stoppable, TimeUpError, check_time
from tasks.training.pretrain_job import Pretraining
from transfer.modalities import lookup
from transfer.models.network import backbone_modules
from transfer.settings.project import Settings
from transfer.training.recipe import Machine


@step("pretrain", tags=["train"])
def pretrain(
    name: str,
    parts: Mapping[str, Divided],
    settings: Settings,
    machine: Machine,
    beside: int,
    stop: Stop,
    until: float | None = None,
) -> Source | None:
    """Pretrain the backbone on the training split of one dataset, or of several at once; None where
    the time was up before its end.

    Args:
        name: of the knowledge source.
        parts: the datasets by name; classes of one name are one class.
        settings: of the pretraining and the backbone.
        machine: where to compute.
        beside: how many arms are trained at the same time.
        stop: when set, training stops at the next step.
        until: when the training has to end, in seconds since the epoch; None lets it go on.

    Raises:
        Stopped: ``stop`` was set; the training continues from here when it is run again.
    """
    stop.check()
    machines.leave_cores(beside)
    inputs = {
        f"{key} {i}": digest
        for i, part in enumerate(parts.values())
        for key, digest in part.inputs().items()
    }
    told = {
        "name": name,
        "pretrain": settings.pretrain.model_dump(mode="json"),
        "backbone": settings.backbone.model_dump(mode="json"),
        "machine": vars(machine),
    }
    code = [
        "tasks.training.pretrain_job",
        "transfer.arms.pretrain",
        lookup.code(settings.input.modality),
        *backbone_modules(settings.input.modality, settings.backbone.body),
    ]

    def compute(out: Path) -> None:
        check_time(until)
        work = Pretraining(
            name=name,
            parts=tuple((part.scan.path, part.split.path) for part in parts.values()),
            body=settings.backbone.body,
            settings=settings.pretrain,
            device=machine.device,
            precision=machine.precision,
            out=out,
            checkpoint=content_store.partial(out),
            checkpoint_seconds=settings.run.checkpoint_seconds,
            stop=stop.path,
            until=until,
        )
        processes, tell = settings.run.pretrain_processes, progress(f"pretrain {name}")
        with blamed(f"pretrain {name}"):
            if processes > 1:
                torchrun.run(work, processes, machines.threads_each(beside, processes), tell)
            else:
                work.run(tell)

    try:
        ref = content_store.result("pretrain", compute, inputs=inputs, settings=told, code=code)
    except TimeUpError:
        return None
    Stoppable(content_store.partial(ref.path)).forget()
    if len(parts) > 1:
        return Source(name, ref, None, parts=tuple(parts))
    (items,) = parts.values()
    return Source(name, ref, items)
