"""Training within a budget: the most promising arms first, until the time is gone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.runtime.artifacts import ArmRef, Divided, Ref, Source
from tasks.schedule import plan as planning
from tasks.schedule.cost_probe import rest, stored
from tasks.schedule.submitter import Crew
from tasks.schedule.time_budget import LEAST, Allowance
from tasks.training import advise as advisor
from transfer.arms import budget_policy
from transfer.arms.budget_policy import Job, Standing
from transfer.arms.plan import Plan
from transfer.settings.project import Settings


def within(
    allowance: Allowance,
    crew: Crew,
    parts: dict[str, dict[str, Divided]],
    target: Divided,
    settings: Settings,
) -> tuple[list[Source], Ref, list[ArmRef]]:
    """Pretrain, ask the advisor, and train as many arms as there is time for.

    The first body comes first, and the baseline beside it; then, until there are two seeds of
    each, the most promising method and the baseline, the first seed of all others, and at last
    the other seeds of the best, one method after the other. An arm that is still at work when the
    time is up keeps its checkpoint and is left out, as is one whose seed the baseline lacks.

    Raises:
        CrosstrainError: not even one seed of the baseline and of one method was there in time.
    """
    rounds = _Rounds(allowance, crew, settings)
    own = planning.plans(settings, target, [])
    known = rounds.pretrain(parts, [one for one in own if planning.is_baseline(one, settings)])
    known += crew.unpack(settings.pretrained)
    advised = advisor.advise(known, target, settings, crew.machine)
    known = advisor.promising(known, advised, settings.adapt.best_sources)
    rounds.known, ranked = known, [one.name for one in advisor.load(advised)]
    rounds.planned = [*own, *planning.plans(settings, target, known)]
    if crew.searches:
        allowance.leave_out(["search of settings"], "arms come first")
    return known, advised, rounds.train(ranked)


@dataclass(frozen=True)
class _UnderWay:
    """An arm that is being trained."""

    future: Any
    ends: float
    """When it is expected to, in seconds since the epoch."""


class _Rounds:
    """Trains bundles of arms, each as far as there is time, and knows what is done."""

    def __init__(self, allowance: Allowance, crew: Crew, settings: Settings) -> None:
        self.allowance, self.crew, self.settings = allowance, crew, settings
        self.seeds = settings.adapt.seeds
        self.planned: list[Plan] = []
        self.known: list[Source] = []
        self.done: dict[Job, ArmRef] = {}
        self._under_way: dict[Job, _UnderWay] = {}

    def pretrain(
        self, parts: dict[str, dict[str, Divided]], baselines: Sequence[Plan]
    ) -> list[Source]:
        """The first body beside the baseline's arms; others have half of the time that is left.

        The baseline's second seed begins only while a body is still at work: until there is a
        decision at all, an arm that uses the body comes before it.
        """
        self.planned = list(baselines)
        crew, late = self.crew, self.allowance.until(LEAST, needed=True)
        half = self.allowance.until(LEAST) - self.allowance.left(LEAST) / 2
        early = min(half, self.allowance.until(LEAST) - rest(self.allowance, self.settings))
        beside = min(len(baselines), crew.at_once - 1)
        (name, part), *others = parts.items()
        started, labels = [crew.body(name, part, beside, late)], [one.label for one in baselines]
        first, *second = [
            [(one, s) for one in labels] for s in budget_policy.least_seeds(self.seeds)
        ]
        self._start(self._costs(first), first)
        started += [crew.body(name, part, beside, early) for name, part in others]
        self._attend(started, [job for jobs in second for job in jobs])
        bodies = crew.done(started)
        late_ones = [name for name, body in zip(parts, bodies, strict=True) if body is None]
        if bodies[0] is None:
            raise self.allowance.too_late()
        self.allowance.leave_out(late_ones, "no time to pretrain on it")
        return [body for body in bodies if body is not None]

    def _attend(self, bodies: Sequence[Any], then: Sequence[Job]) -> None:
        """Wait for bodies; when the arms beside them end before, start other ones."""
        beside = {one.future for one in self._under_way.values()}
        missing = set(bodies)
        for future in self.crew.as_done([*bodies, *beside]):
            missing.discard(future)
            beside.discard(future)
            if not missing:
                return
            if not beside and then:
                self._start(self._costs(then))
                then = ()

    def train(self, ranked: Sequence[str]) -> list[ArmRef]:
        """All rounds; the arms that a decision can be made of.

        Args:
            ranked: names of the sources, the best first.
        """
        promising = planning.ordered(self.planned, self.settings, ranked)
        first = next(one for one in promising if one.sources)
        promising = [first, *(one for one in promising if one is not first)]
        labels = [one.label for one in promising]
        known = {*self.done, *self._under_way}
        self._make(budget_policy.opening(self._baselines(), labels, self.seeds, known), needed=1)
        firsts = [self.done.get((one.label, self.seeds[0])) for one in promising]
        best = planning.by_validation([arm for arm in firsts if arm], self.settings)
        while bundles := budget_policy.sequel(self._baselines(), best, self.seeds, self.done):
            if not self._make(bundles):
                break
        return self._decided(best)

    def _baselines(self) -> list[str]:
        return [p.label for p in self.planned if planning.is_baseline(p, self.settings)]

    def _make(self, bundles: Sequence[Sequence[Job]], needed: int = 0) -> int:
        """Train the bundles from the front that end in time, and those that are needed."""
        now = time.time()
        ahead = [max(0.0, one.ends - now) for one in self._under_way.values()]
        costs = self._costs([job for bundle in bundles for job in bundle])
        asked = [ahead, *([costs[job] for job in bundle] for bundle in bundles)]
        left = self.allowance.left(len(self.done))
        fit = budget_policy.fitting(asked, left, self.crew.at_once, self.allowance.each)
        count = max(fit - 1, needed)
        late = [job for bundle in bundles[:needed] for job in bundle]
        self._start({job: costs[job] for bundle in bundles[:count] for job in bundle}, late)
        self._finish()
        return count

    def _costs(self, jobs: Sequence[Job]) -> dict[Job, float]:
        """Seconds that each arm takes; none where it is stored. Not of one that is under way: its
        place in the store is locked until it ends."""
        plans, steps = self._plans(), self.settings.adapt.training.steps

        def cost(plan: Plan, seed: int) -> float:
            there = stored(plan, seed, self.known, self.crew.shared)
            return 0.0 if there else self.allowance.cost(plan, steps)

        return {(label, seed): cost(plans[label], seed) for label, seed in jobs}

    def _plans(self) -> dict[str, Plan]:
        return {one.label: one for one in self.planned}

    def _start(self, jobs: Mapping[Job, float], late: Sequence[Job] = ()) -> None:
        """Start jobs of so many seconds; those without which there is no decision may be late."""
        plans, arms = self._plans(), len(self.done) + len(self._under_way) + len(jobs)
        for (label, seed), cost in jobs.items():
            until = self.allowance.until(arms, needed=(label, seed) in late)
            arm = self.crew.arm(plans[label], seed, self.known, until)
            self._under_way[label, seed] = _UnderWay(arm, time.time() + cost)

    def _finish(self) -> None:
        """Wait for all that was started."""
        arms = self.crew.done([one.future for one in self._under_way.values()])
        for job, arm in zip(self._under_way, arms, strict=True):
            if arm is not None:
                self.done[job] = arm
                self.allowance.observe(arm, self.settings.adapt.training.steps)
        self._under_way = {}

    def _decided(self, best: Sequence[str]) -> list[ArmRef]:
        """The arms that count, finalists first, and what is told of the others."""
        baselines, others = self._baselines(), [p for p in self.planned if not p.sources]
        transfers = [p.label for p in self.planned if p.sources and p.label not in baselines]
        alone = [one.label for one in others if one.label not in baselines]
        found = budget_policy.standing(self.done, baselines, transfers, alone, self.seeds)
        if found is None:
            raise self.allowance.too_late()
        self._tell(found, best)
        return planning.decided(self.planned, self.done, found)

    def _tell(self, found: Standing, best: Sequence[str]) -> None:
        """Say what a run without a budget would have: all, but what its first seed stopped."""
        first, names = self.seeds[0], [one.label for one in self.planned]
        stopped = [
            name
            for name in names
            if (name, first) in self.done and name not in (*best, *self._baselines())
        ]
        gone = [
            (name, seed)
            for name in names
            for seed in self.seeds
            if not found.keeps((name, seed)) and not (name in stopped and seed != first)
        ]
        for why, done in (("no time", False), ("no time for this seed of the others", True)):
            told = [f"{name}/{seed}" for name, seed in gone if ((name, seed) in self.done) == done]
            self.allowance.leave_out(told, why)
