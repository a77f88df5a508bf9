"""Train the arms: every method with every seed on the target."""

from functools import partial
from pathlib import Path
from threading import Event

from tasks import machine as machines
from tasks import store
from tasks.refs import ArmRef, Divided, Ref
from tasks.step import blamed, progress, step
from tasks.stoppable import Stoppable
from transfer import adapt as library
from transfer import pretrain as pretrained
from transfer.arrays import labelled_items, normalisation, validation_items
from transfer.checkpoint import Keeper
from transfer.method import known
from transfer.modalities.image.spec import ImageSpec
from transfer.recipe import Machine, Recipe
from transfer.sample import Manifest
from transfer.settings import Settings


def names(settings: Settings) -> list[str]:
    """The methods to run: those asked for, and scratch."""
    return list(dict.fromkeys(["scratch", *settings.adapt.methods]))


def uses_source(name: str) -> bool:
    """Whether a method takes anything from the source, and so waits for pretraining."""
    return known()[name].uses_source


@step("adapt", tags=["train"])
def adapt(
    name: str,
    seed: int,
    target: Divided,
    spec: ImageSpec,
    settings: Settings,
    machine: Machine,
    folds: int,
    at_once: int,
    stop: Event,
    knowledge: Ref | None = None,
) -> ArmRef:
    """Train one arm on the target, or take the one that is stored.

    ``knowledge`` is the pretrained body, None for a method that uses none.

    Raises:
        KeyboardInterrupt: ``stop`` was set; the training continues from here when it is run again.
    """
    machines.share_cores(at_once)
    method = getattr(settings.methods, name)
    inputs = target.inputs()
    if knowledge:
        inputs["knowledge"] = knowledge.digest
    told = {
        "method": {name: method.model_dump(mode="json")},
        "seed": seed,
        "folds": folds,
        "budget": settings.adapt.budget.model_dump(mode="json"),
        "augment": settings.augment.model_dump(mode="json"),
        "backbone": settings.backbone.model_dump(mode="json"),
        "limits": settings.image.limits.model_dump(mode="json"),  # they go into the model's card
        "machine": vars(machine),
    }
    code = [
        "transfer.adapt",
        f"transfer.methods.{name}",
        f"transfer.backbones.{settings.backbone.name}",
    ]

    def compute(out: Path) -> None:
        shared = _target(target, spec, settings, folds)
        recipe = Recipe(
            settings.adapt.budget,
            settings.augment,
            normalisation(shared.labelled),
            len(shared.class_names),
            machine,
        )
        with blamed(f"adapt {name}/{seed}"):
            arm = library.adapt(
                name,
                method,
                pretrained.load(knowledge.path) if knowledge else None,
                shared,
                recipe,
                seed=seed,
                keeper=partial(_keeper, out, settings.run.checkpoint_seconds, stop),
                on_step=progress(f"adapt {name}/{seed}"),
            )
        library.save(arm, shared, recipe, out)

    ref = store.result("adapt", compute, inputs=inputs, settings=told, code=code)
    for fold in range(max(folds, 1)):
        _keeper(ref.path, 1.0, stop, fold).forget()
    return ArmRef(name, seed, settings.adapt.budget.steps, ref)


def _keeper(place: Path, seconds: float, stop: Event, fold: int) -> Keeper:
    return Stoppable(store.partial(place).with_suffix(f".{fold}"), seconds, stop=stop)


def _target(target: Divided, spec: ImageSpec, settings: Settings, folds: int) -> library.Target:
    manifest = Manifest.load(target.scan.path)
    return library.Target(
        name=settings.target.label,
        class_names=manifest.class_names,
        labelled=labelled_items(target.scan.path, target.split.path),
        validation=None if folds else validation_items(target.scan.path, target.split.path),
        folds=folds,
        spec=spec,
        limits=settings.image.limits,
        backbone=settings.backbone,
    )
