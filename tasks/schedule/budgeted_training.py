"""Training within a time budget: the most promising arms first, while time is left."""

import time
from collections import deque
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

from tasks.runtime.artifacts import ArmRef, Source, TrainedArms
from tasks.runtime.formatting import duration
from tasks.runtime.step import log
from tasks.schedule import plan as planning
from tasks.schedule.submitter import ArmSubmitter
from tasks.schedule.time_budget import NEEDED_ARMS, deadline, is_stored
from tasks.schedule.training_plan import Costs, TrainingPlan
from tasks.training.adapt import ArmJob
from tasks.training.advise import advise, load, promising
from transfer.arms import budget_policy
from transfer.arms.budget_policy import ArmKey, Standing
from transfer.arms.plan import ArmPlan
from transfer.core.errors import CrosstrainError


def train_within(plan: TrainingPlan, costs: Costs, submitter: ArmSubmitter) -> TrainedArms:
    """Pretrain, rank the sources, and train as many arms as fit in the time.

    The first pretraining comes first, and the baseline beside it; then the most promising method,
    and a second seed of both; then the first seed of all others, and finally the other seeds of
    the best, method by method. An arm that is still being trained when the time is up keeps its
    checkpoint and is left out, like an arm whose seed the baseline lacks.

    Args:
        plan: what is trained, and with how many steps.
        costs: what trainings are expected to take.
        submitter: starts them.

    Raises:
        CrosstrainError: not even one seed of the baseline and of one method was finished in time.
    """
    training = _BudgetedTraining(plan, costs, submitter)
    context, settings = plan.context, plan.settings
    sources = [*training.pretrain(), *submitter.unpack()]
    advice = advise(sources, context.target, settings, context.machine)
    sources = promising(sources, advice, settings.adapt.best_sources)
    helped = planning.plans(settings, context.target, sources)
    arms = training.train(helped, sources, [measured.name for measured in load(advice)])
    if submitter.searches:
        training.leave_out(["search of settings"], "arms come first")
    return TrainedArms(sources, advice, arms, training.left_out)


class _BudgetedTraining:
    """Starts trainings while they are expected to end in time, and records the finished ones."""

    def __init__(self, plan: TrainingPlan, costs: Costs, submitter: ArmSubmitter) -> None:
        self.context, self.costs, self.submitter = plan.context, costs, submitter
        self.settings, self.seeds = plan.settings, plan.settings.adapt.seeds
        self.plans = {group.label: group for group in plan.alone}
        self.baselines = [p.label for p in plan.alone if planning.is_baseline(p, self.settings)]
        self.sources: Sequence[Source] = ()
        self.done: dict[ArmKey, ArmRef] = {}
        self.left_out: dict[str, str] = {}
        self._running: dict[Any, ArmKey] = {}
        self._slowness: list[float] = []

    def pretrain(self) -> list[Source]:
        """The first pretraining beside the baseline's arms; the others may use half of the
        remaining time, and leave enough for an arm that uses a source."""
        submitter, (first, *others) = self.submitter, self.context.pretrainings
        beside = min(len(self.baselines), self.context.arms_at_once - 1)
        futures = [submitter.pretrain(first, beside, self._deadline(NEEDED_ARMS, needed=True))]
        for label in self.baselines:
            self._start((label, self.seeds[0]), needed=True)
        end, now = self._deadline(NEEDED_ARMS), time.time()
        transfer = self.costs.arm(planning.likely(self.settings), self.settings)
        early = min(end - (end - now) / 2, end - transfer)
        futures += [submitter.pretrain(name, beside, early) for name in others]
        self._train([(label, self.seeds[1]) for label in self.baselines if self.seeds[1:]], futures)
        results = dict(zip((first, *others), submitter.done(futures), strict=True))
        if results[first] is None:
            raise self._too_late()
        without_time = [name for name, source in results.items() if source is None]
        self.leave_out(without_time, "no time to pretrain on it")
        return [source for source in results.values() if source is not None]

    def train(
        self, helped: Sequence[ArmPlan], sources: Sequence[Source], ranked: Sequence[str]
    ) -> list[ArmRef]:
        """Train first and further seeds; returns the arms on which a decision can be based.

        Args:
            helped: the groups of arms that use a source.
            sources: what they use.
            ranked: names of the sources, the best first.
        """
        self.sources = sources
        self.plans |= {group.label: group for group in helped}
        order = planning.ordered(list(self.plans.values()), self.settings, ranked)
        groups = sorted((p.label for p in order), key=lambda label: label != _transfer(order).label)
        started = {*self.done, *self._running.values()}
        arms = budget_policy.first_round(self.baselines, groups, self.seeds, started)
        needed = [arm for arm in arms if arm in self._needed(groups[0])]
        for arm in needed:
            self._start(arm, needed=True)
        self._train([arm for arm in arms if arm not in needed])
        firsts = [self.done.get((label, self.seeds[0])) for label in groups]
        best = planning.by_validation([arm for arm in firsts if arm], self.settings)
        self._train(budget_policy.second_round(self.baselines, best, self.seeds, self.done))
        return self._decided(best)

    def leave_out(self, names: Collection[str], why: str) -> None:
        """Record what was left out, and why."""
        if names:
            log.info("left out, %s: %s", why, ", ".join(names))
            self.left_out |= dict.fromkeys(names, why)

    def _needed(self, group: str) -> list[ArmKey]:
        return [(label, self.seeds[0]) for label in (group, *self.baselines)]

    def _deadline(self, arms: int, *, needed: bool = False) -> float:
        """When the last of ``arms`` arms has to end. If arms took longer than expected, the end
        of the run is expected to take longer by the same factor, except for needed arms."""
        slowness = 1.0 if needed else max(1.0, median(self._slowness or [1.0]))
        overhead = self.costs.overhead.times(slowness)
        return deadline(self.context.time_limit, overhead, arms, needed=needed)

    def _train(self, arms: Sequence[ArmKey], pretrainings: Sequence[Any] = ()) -> None:
        """Start arms in their order, each when a worker is free, until an arm is not expected to
        end in time; returns when the pretrainings are done, or, without any, all arms."""
        waiting, pending = deque(arms), set(pretrainings)
        while True:
            while waiting and len(pending) + len(self._running) < self.context.arms_at_once:
                if self._fits(waiting[0]):
                    self._start(waiting.popleft())
                else:
                    waiting.clear()
            if not (pending if pretrainings else self._running):
                return
            future = self.submitter.first_done([*pending, *self._running])
            if future in pending:
                pending.remove(future)
            else:
                self._finish(future)

    def _fits(self, arm: ArmKey) -> bool:
        """Whether an arm is expected to end in time; a stored arm takes no time."""
        plan, seed = self.plans[arm[0]], arm[1]
        if is_stored(ArmJob.of(plan, seed, self.sources), self.context):
            return True
        end = time.time() + self.costs.arm(plan, self.settings)
        return end <= self._deadline(len(self.done) + len(self._running) + 1)

    def _start(self, arm: ArmKey, *, needed: bool = False) -> None:
        until = self._deadline(len(self.done) + len(self._running) + 1, needed=needed)
        label, seed = arm
        future = self.submitter.arm(self.plans[label], seed, self.sources, until)
        self._running[future] = arm

    def _finish(self, future: Any) -> None:
        arm, key = self.submitter.runner.result(future), self._running.pop(future)
        if arm is not None:
            self.done[key] = arm
            if not arm.ref.reused:
                expected = self.costs.arm(arm.plan, self.settings)
                self._slowness.append(arm.ref.seconds / max(expected, 1e-9))
            self.costs = self.costs.observed(arm, self.settings)

    def _decided(self, best: Sequence[str]) -> list[ArmRef]:
        """The arms that count, finalists first; the others are left out."""
        groups = [p for p in self.plans.values() if p.label not in self.baselines]
        transfers = [p.label for p in groups if p.sources]
        alone = [p.label for p in groups if not p.sources]
        standing = budget_policy.standing(self.done, self.baselines, transfers, alone, self.seeds)
        if standing is None:
            raise self._too_late()
        self._leave_out_all_but(standing, best)
        return planning.decided(list(self.plans.values()), self.done, standing)

    def _leave_out_all_but(self, standing: Standing, best: Sequence[str]) -> None:
        """Record the arms that a run without a budget would also have, without those that stop
        after their first seed."""
        first = self.seeds[0]
        stopped = {label for label, seed in self.done if seed == first}
        stopped -= {*best, *self.baselines}
        missing = [
            (label, seed)
            for label in self.plans
            for seed in self.seeds
            if not standing.keeps((label, seed)) and not (label in stopped and seed != first)
        ]
        for why, done in (("no time", False), ("no time for this seed of the others", True)):
            names = [f"{label}/{s}" for label, s in missing if ((label, s) in self.done) == done]
            self.leave_out(names, why)

    def _too_late(self) -> CrosstrainError:
        return CrosstrainError(
            f"the time of {duration(self.context.time_limit.seconds or 0)} was up before there was "
            "one arm from scratch and one that uses a source; nothing was registered, and the "
            "champion stays. What was trained is kept: run it again to continue, or raise "
            "run.budget"
        )


def _transfer(plans: Sequence[ArmPlan]) -> ArmPlan:
    """The most promising group that uses a source."""
    return next(group for group in plans if group.sources)
