"""What to train next where time is short. Pure: times are seconds from now, nothing reads a clock.

A job is a group of arms and a seed. Jobs come in bundles: what is only of use together. Bundles
stand in one order, the most promising first, and of them a run takes as many from the front as
end in time. So more time only ever adds bundles, and what is taken never depends on what a job
that is not taken would have cost.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

Job = tuple[str, int]
"""The label of a group of arms, and a seed."""

LEAST_SEEDS = 2
"""Seeds below which nothing is known of how seeds differ, and so no interval over them."""

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of the steps that all trainings may be cut to. Few and fixed, so that a later run with the
same budget finds the same ones and goes on with what is stored."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a training: some at its beginning and end, and some for each step."""

    fixed: float
    step: float

    @classmethod
    def through(cls, few: tuple[int, float], more: tuple[int, float]) -> "Cost":
        """Of two trainings, each with its steps, the second with more, and its seconds."""
        step = max(0.0, (more[1] - few[1]) / (more[0] - few[0]))
        return cls(max(0.0, few[1] - few[0] * step), step)

    def at(self, steps: int) -> float:
        """Seconds of a training of so many steps."""
        return self.fixed + self.step * steps


def ends(costs: Sequence[float], workers: int) -> float:
    """When the last of some jobs ends that workers take from a queue in this order.

    Args:
        costs: seconds of each.
        workers: how many, 1 or more.
    """
    free = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def fitting(
    bundles: Sequence[Sequence[float]], seconds: float, workers: int, each: float = 0.0
) -> int:
    """How many bundles from the front end in time.

    Args:
        bundles: seconds of the jobs of each.
        seconds: how long there is.
        workers: jobs at once.
        each: seconds after the last one that every job makes necessary.
    """
    taken: list[float] = []
    for count, bundle in enumerate(bundles):
        taken += bundle
        if ends(taken, workers) + each * len(taken) > seconds:
            return count
    return len(bundles)


def affordable(least: Callable[[float], float], seconds: float) -> float | None:
    """The largest share of the steps at which the least that is needed ends in time, if any does.

    Args:
        least: seconds of the least that is needed, by share of the steps.
        seconds: how long there is.
    """
    return next((share for share in SHARES if least(share) <= seconds), None)


def least_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Those that are needed: the first two, or the only one."""
    return tuple(seeds[:LEAST_SEEDS])


def opening(
    baseline: Sequence[str], groups: Sequence[str], seeds: Sequence[int], done: Collection[Job]
) -> list[list[Job]]:
    """Bundles of the first round: the most promising group and the baseline, one seed after the
    other of those that are needed, then the first seed of every other group.

    Args:
        baseline: labels that gains are measured against.
        groups: other labels, the most promising first.
        seeds: of every group, in their order.
        done: jobs that need not be made again.
    """
    best, others = groups[:1], groups[1:]
    bundles = [[(one, seed) for one in (*best, *baseline)] for seed in least_seeds(seeds)]
    return _lacking([*bundles, *([(one, seeds[0])] for one in others)], done)


def sequel(
    baseline: Sequence[str],
    ranked: Sequence[str],
    seeds: Sequence[int],
    done: Collection[Job],
) -> list[list[Job]]:
    """Bundles of what is left after the first round: every further seed of the best group and of
    the baseline, then all further seeds of the second best, and so on.

    Args:
        baseline: labels that gains are measured against; they go where the best group goes.
        ranked: other labels whose first seed was trained, best on validation first.
        seeds: of every group, in their order.
        done: jobs that need not be made again.
    """
    best, others = ranked[:1], ranked[1:]
    bundles = [[(one, seed) for one in (*baseline, *best)] for seed in seeds]
    bundles += [[(one, seed) for seed in seeds] for one in others]
    return _lacking(bundles, done)


def _lacking(bundles: Sequence[Sequence[Job]], done: Collection[Job]) -> list[list[Job]]:
    lacking = [[job for job in bundle if job not in done] for bundle in bundles]
    return [bundle for bundle in lacking if bundle]


@dataclass(frozen=True)
class Standing:
    """What a decision can be made of."""

    seeds: tuple[int, ...]
    """Those that every finalist and the baseline have."""
    finalists: tuple[str, ...]
    """Labels of the groups that may be chosen, the baseline among them."""
    tried: tuple[str, ...]
    """Labels of other groups that have their first seed."""

    def keeps(self, job: Job) -> bool:
        """Whether an arm has a part in the decision."""
        label, seed = job
        return (label in self.finalists and seed in self.seeds) or (
            label in self.tried and seed == self.seeds[0]
        )


def standing(
    finished: Collection[Job],
    baseline: Sequence[str],
    transfers: Sequence[str],
    others: Sequence[str],
    seeds: Sequence[int],
) -> Standing | None:
    """The most seeds that the baseline and a group that transfers both have, and who has them.

    Every arm that may be chosen has the same seeds as the baseline it is compared with, so that
    neither has more networks to average for having been trained earlier. What is compared depends
    on what was finished, never on how good it is.

    Args:
        finished: jobs that were done.
        baseline: labels that gains are measured against.
        transfers: labels of groups that use a source.
        others: labels of groups that use none, but the baseline.
        seeds: of every group, in their order.

    Returns:
        None where not even one seed of both is there.
    """
    labels = (*baseline, *transfers, *others)
    for count in range(len(seeds), 0, -1):
        needed = tuple(seeds[:count])
        full = [one for one in labels if all((one, seed) in finished for seed in needed)]
        if set(baseline) <= set(full) and any(one in full for one in transfers):
            tried = [one for one in labels if one not in full and (one, seeds[0]) in finished]
            return Standing(needed, tuple(full), tuple(tried))
    return None
