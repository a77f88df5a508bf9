"""Training: pretrain on every source, plan the arms and train them, several at once."""

from collections.abc import Sequence
from threading import Event
from typing import Any

from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from tasks import machine as machines
from tasks.adapt import adapt
from tasks.advise import advise, promising
from tasks.package import unpack
from tasks.plan import finalists, plans
from tasks.pretrain import pretrain
from tasks.refs import ArmRef, Divided, Ref, Source
from tasks.search import search
from transfer.features import Features
from transfer.modalities.image.spec import ImageSpec
from transfer.portfolio import Plan
from transfer.recipe import Machine
from transfer.settings import Settings


def train(
    sources: dict[str, Divided],
    target: Divided,
    spec: ImageSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
) -> tuple[list[Source], Ref, list[ArmRef]]:
    """Pretrain on every source, ask the advisor, and train the arms: those from nothing beside the
    pretraining, then the first seed of all others, then the other seeds of the promising ones."""
    at_once, (first, *more) = machines.workers(settings.run, machine), settings.adapt.seeds
    with ThreadPoolTaskRunner[Any](max_workers=at_once) as runner:
        crew = _Crew(runner, target, spec, folds, settings, machine, at_once)
        bodies = crew.pretrain(_parts(sources, settings), min(1 + len(more), at_once - 1))
        alone = crew.adapt(plans(settings, target, []), [first, *more], [])
        known = [*crew.done(bodies), *(unpack(name, spec) for name in settings.pretrained)]
        advised = advise(known, target, settings, machine)
        known = promising(known, advised, settings.adapt.best_sources)
        helped = plans(settings, target, known)
        stopped: list[ArmRef] = []
        if settings.adapt.finalists is not None:
            helped, stopped = finalists(crew.done(crew.adapt(helped, [first], known)), settings)
        if settings.adapt.trials and settings.target.labels_per_class != 0:
            helped = crew.done(crew.search(helped, first, known))
        arms = crew.done([*alone, *crew.adapt(helped, [first, *more], known)])
        return known, advised, [*arms, *stopped]


def _parts(sources: dict[str, Divided], settings: Settings) -> dict[str, list[Divided]]:
    """What each body is trained on."""
    parts = {name: [divided] for name, divided in sources.items()}
    if settings.pretrain.jointly and len(sources) > 1:
        parts[" and ".join(sources)] = list(sources.values())
    return parts


class _Crew:
    """Submits trainings, and stops all of them when one fails or the run is interrupted."""

    def __init__(
        self,
        runner: ThreadPoolTaskRunner[Any],
        target: Divided,
        spec: ImageSpec,
        folds: int,
        settings: Settings,
        machine: Machine,
        at_once: int,
    ) -> None:
        self.runner, self.stop = runner, Event()
        self.told = {"settings": settings, "machine": machine, "stop": self.stop}
        self.shared = {
            "target": target,
            "spec": spec,
            "folds": folds,
            "at_once": at_once,
            "features": Features(),
            **self.told,
        }

    def pretrain(self, parts: dict[str, list[Divided]], beside: int) -> list[Any]:
        """Start the pretraining of every body, beside so many arms."""
        return [
            self.runner.submit(
                pretrain, {"name": name, "parts": part, "beside": beside, **self.told}
            )
            for name, part in parts.items()
        ]

    def adapt(
        self, planned: Sequence[Plan], seeds: Sequence[int], sources: list[Source]
    ) -> list[Any]:
        """Start the arms of some plans."""
        told = {"sources": sources, **self.shared}
        return [
            self.runner.submit(adapt, {"plan": plan, "seed": seed, **told})
            for plan in planned
            for seed in seeds
        ]

    def search(self, planned: Sequence[Plan], seed: int, sources: list[Source]) -> list[Any]:
        """Start the search for the settings of some plans."""
        arm = {"sources": sources, **self.shared}
        settings = arm.pop("settings")
        told = {"seed": seed, "settings": settings, "arm": arm}
        return [self.runner.submit(search, {"plan": plan, **told}) for plan in planned]

    def done(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for trainings; when one fails the others stop at their next step."""
        try:
            for future in as_completed(list(futures)):
                future.result()
        except BaseException:
            self.stop.set()
            raise
        return [future.result() for future in futures]
