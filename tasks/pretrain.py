"""Train a body on a source, or take the one that is stored."""

from collections.abc import Mapping
from pathlib import Path

from tasks import machine as machines
from tasks import store
from tasks.refs import Divided, Source
from tasks.step import blamed, progress, step
from tasks.stoppable import Stop, Stoppable
from transfer import pretrain as library
from transfer.arrays import SourceItems, labelled_items, union, validation_items
from transfer.recipe import Machine
from transfer.sample import Manifest
from transfer.settings import Settings


@step("pretrain", tags=["train"])
def pretrain(
    name: str,
    parts: Mapping[str, Divided],
    settings: Settings,
    machine: Machine,
    beside: int,
    stop: Stop,
) -> Source:
    """Pretrain the backbone on the training split of one dataset, or of several at once.

    Args:
        name: of the knowledge source.
        parts: the datasets by name; classes of one name are one class.
        settings: of the pretraining and the backbone.
        machine: where to compute.
        beside: how many arms are trained at the same time.
        stop: when set, training stops at the next step.

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
    code = ["transfer.pretrain", f"transfer.backbones.{settings.backbone.name}"]

    def compute(out: Path) -> None:
        items = union([_items(part, "train") for part in parts.values()])
        validation = union([_items(part, "val") for part in parts.values()])
        with blamed(f"pretrain {name}"):
            library.pretrain(
                name,
                items.class_names,
                items.items,
                validation.items,
                body=settings.backbone.body,
                settings=settings.pretrain,
                machine=machine,
                out=out,
                keeper=Stoppable(store.partial(out), settings.run.checkpoint_seconds, stop=stop),
                on_step=progress(f"pretrain {name}"),
            )

    ref = store.result("pretrain", compute, inputs=inputs, settings=told, code=code)
    Stoppable(store.partial(ref.path)).forget()
    if len(parts) > 1:
        return Source(name, ref, None, parts=tuple(parts))
    (items,) = parts.values()
    return Source(name, ref, items)


def _items(part: Divided, side: str) -> SourceItems:
    read = labelled_items if side == "train" else validation_items
    items = read(part.scan.path, part.split.path)
    return SourceItems.of(items, Manifest.load(part.scan.path).class_names)
