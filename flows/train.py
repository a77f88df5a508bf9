"""Training: pretrain on every source, plan the arms and train them, several at once."""

from collections.abc import Sequence
from typing import Any

from prefect.futures import as_completed

from flows.within import within
from tasks import machine as machines
from tasks import runners
from tasks.adapt import adapt
from tasks.advise import advise, promising
from tasks.allowance import Allowance
from tasks.package import unpack
from tasks.plan import check, finalists, plans
from tasks.pretrain import pretrain
from tasks.refs import ArmRef, Divided, Ref, Source
from tasks.search import search
from tasks.trial import Bench, suit
from transfer.features import Features
from transfer.modalities.image.spec import ImageSpec
from transfer.portfolio import Plan
from transfer.recipe import Machine
from transfer.settings import Settings


def fitted(
    sources: dict[str, Divided],
    target: Divided,
    spec: ImageSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
    allowance: Allowance,
) -> Settings:
    """Refuse what could not be trained, and fit the number of steps to the budget, if there is
    one."""
    check(settings, sources, target)
    if not allowance.limited:
        return settings
    at_once = machines.workers(settings.run, machine)
    bench = Bench(_bodies(sources, settings), target, spec, folds, machine, at_once)
    found: Settings = suit(allowance, bench, settings)
    return found


def train(
    sources: dict[str, Divided],
    target: Divided,
    spec: ImageSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
    allowance: Allowance,
) -> tuple[list[Source], Ref, list[ArmRef]]:
    """Pretrain on every source, ask the advisor, and train the arms: those from nothing beside the
    pretraining, then the first seed of all others, then the other seeds of the promising ones.

    With a budget, `flows.within` says what is trained.

    When one training fails or the run is interrupted, the others stop at their next step.
    """
    at_once = machines.workers(settings.run, machine)
    with runners.start(settings.run, at_once) as runner:
        crew = Crew(runner, target, spec, folds, settings, machine, at_once)
        parts = _bodies(sources, settings)
        try:
            if allowance.limited:
                return within(allowance, crew, parts, target, settings)
            known = [*crew.pretrain(parts), *crew.unpack(settings.pretrained)]
            advised = advise(known, target, settings, machine)
            known = promising(known, advised, settings.adapt.best_sources)
            return known, advised, _arms(crew, known, target, settings)
        except BaseException:
            crew.stop.set()
            raise


def _arms(crew: "Crew", known: list[Source], target: Divided, settings: Settings) -> list[ArmRef]:
    helped, stopped = plans(settings, target, known), list[ArmRef]()
    first, *more = settings.adapt.seeds
    if settings.adapt.finalists is not None:
        tried = crew.done(crew.adapt(helped, [first], known))
        helped, stopped = finalists(tried, settings)
    if crew.searches:
        searched = crew.search(plans(settings, target, []), []), crew.search(helped, known)
        own, helped = (crew.done(futures) for futures in searched)
        crew.alone = crew.adapt(own, [first, *more], [])
    arms = [*crew.alone, *crew.adapt(helped, [first, *more], known)]
    return [*crew.done(arms), *stopped]


def _bodies(sources: dict[str, Divided], settings: Settings) -> dict[str, dict[str, Divided]]:
    """What each body is trained on."""
    parts = {name: {name: divided} for name, divided in sources.items()}
    if settings.pretrain.jointly and len(sources) > 1:
        parts[" and ".join(sources)] = sources
    return parts


class Crew:
    """Submits trainings; when its ``stop`` is set, all of them stop."""

    def __init__(
        self,
        runner: runners.Runner,
        target: Divided,
        spec: ImageSpec,
        folds: int,
        settings: Settings,
        machine: Machine,
        at_once: int,
    ) -> None:
        self.runner, self.settings, self.at_once = runner, settings, at_once
        self.stop, self.machine = runner.stop, machine
        self.alone: list[Any] = []
        self.told = {"settings": settings, "machine": machine, "stop": self.stop}
        self.shared: dict[str, Any] = {
            "target": target,
            "spec": spec,
            "folds": folds,
            "at_once": at_once,
            "features": Features(),
            **self.told,
        }

    @property
    def searches(self) -> bool:
        """Whether settings are searched; of a target without labels nothing could be."""
        return self.settings.adapt.trials > 0 and self.settings.target.labels_per_class != 0

    def pretrain(self, parts: dict[str, dict[str, Divided]]) -> list[Source]:
        """Pretrain every body, beside the arms that need none, unless those wait for a search."""
        own = [] if self.searches else plans(self.settings, self.shared["target"], [])
        seeds = self.settings.adapt.seeds
        beside = min(len(own) * len(seeds), self.at_once - 1)
        bodies = [self.body(name, part, beside) for name, part in parts.items()]
        self.alone = self.adapt(own, seeds, [])
        found: list[Source] = self.done(bodies)
        return found

    def body(
        self, name: str, part: dict[str, Divided], beside: int, until: float | None = None
    ) -> Any:
        """Start the pretraining of a body."""
        told = {"name": name, "parts": part, "beside": beside, "until": until, **self.told}
        return self.runner.submit(pretrain, told)

    def unpack(self, names: Sequence[str]) -> list[Source]:
        """Take the weights of installed packages."""
        size = self.settings.pretrained_size
        return [unpack(name, self.shared["spec"], size) for name in names]

    def adapt(
        self, planned: Sequence[Plan], seeds: Sequence[int], sources: list[Source]
    ) -> list[Any]:
        """Start the arms of some plans."""
        return [self.arm(plan, seed, sources) for plan in planned for seed in seeds]

    def arm(self, plan: Plan, seed: int, sources: list[Source], until: float | None = None) -> Any:
        """Start one arm."""
        told = {"plan": plan, "seed": seed, "sources": sources, "until": until, **self.shared}
        return self.runner.submit(adapt, told)

    def search(self, planned: Sequence[Plan], sources: list[Source]) -> list[Any]:
        """Start the search for the settings of some plans, on a seed that no arm has."""
        arm = {name: told for name, told in self.shared.items() if name != "settings"}
        told = {
            "seed": max(self.settings.adapt.seeds) + 1,
            "settings": self.settings,
            "arm": {"sources": sources, **arm},
        }
        return [self.runner.submit(search, {"plan": plan, **told}) for plan in planned]

    def done(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for trainings, and raise what the first one that fails raises."""
        for future in as_completed(list(futures)):
            self.runner.result(future)
        return [self.runner.result(future) for future in futures]
