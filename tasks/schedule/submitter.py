"""Trains bodies and arms, several at once, on whatever engine runs them."""

from collections.abc import Iterator, Sequence
from typing import Any

from prefect.futures import as_completed

from tasks.runtime.artifacts import Divided, Source
from tasks.schedule.plan import plans
from tasks.training import runners
from tasks.training.adapt import adapt
from tasks.training.pretrain import pretrain
from tasks.training.pretrained_weights import unpack
from tasks.training.search import search
from transfer.arms.plan import Plan
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings
from transfer.training.feature_cache import Features
from transfer.training.recipe import Machine


class Crew:
    """Submits trainings; when its ``stop`` is set, all of them stop."""

    def __init__(
        self,
        runner: runners.Runner,
        target: Divided,
        spec: InputSpec,
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
        told = self.settings.input
        return [unpack(name, self.shared["spec"], told) for name in names]

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
        for _ in self.as_done(futures):
            pass
        return [self.runner.result(future) for future in futures]

    def as_done(self, futures: Sequence[Any]) -> Iterator[Any]:
        """Each training once it has ended; raises what the first one that fails raises."""
        for future in as_completed(list(futures)):
            self.runner.result(future)
            yield future
