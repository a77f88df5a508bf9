"""Train a body on the source, or take the one that is stored."""

from pathlib import Path
from threading import Event

from tasks import machine as machines
from tasks import store
from tasks.refs import Divided, Ref
from tasks.step import blamed, progress, step
from tasks.stoppable import Stoppable
from transfer import pretrain as library
from transfer.arrays import labelled_items, validation_items
from transfer.recipe import Machine
from transfer.sample import Manifest
from transfer.settings import Settings


@step("pretrain", tags=["train"])
def pretrain(
    source: Divided, settings: Settings, machine: Machine, beside: int, stop: Event
) -> Ref:
    """Pretrain the backbone on the source's training split, ``beside`` as many arms.

    Raises:
        KeyboardInterrupt: ``stop`` was set; the training continues from here when it is run again.
    """
    machines.leave_cores(beside)
    inputs = source.inputs()
    told = {
        "pretrain": settings.pretrain.model_dump(mode="json"),
        "backbone": settings.backbone.model_dump(mode="json"),
        "machine": vars(machine),
    }
    code = ["transfer.pretrain", f"transfer.backbones.{settings.backbone.name}"]

    def compute(out: Path) -> None:
        manifest = Manifest.load(source.scan.path)
        with blamed("pretrain"):
            library.pretrain(
                manifest.name,
                manifest.class_names,
                labelled_items(source.scan.path, source.split.path),
                validation_items(source.scan.path, source.split.path),
                body=settings.backbone.body,
                settings=settings.pretrain,
                machine=machine,
                out=out,
                keeper=Stoppable(store.partial(out), settings.run.checkpoint_seconds, stop=stop),
                on_step=progress("pretrain"),
            )

    ref = store.result("pretrain", compute, inputs=inputs, settings=told, code=code)
    Stoppable(store.partial(ref.path)).forget()
    return ref
