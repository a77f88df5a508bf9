"""What to train next under a time budget. Pure functions: nothing here reads a clock.

An arm is a group of arms and a seed. Arms have one order, the most promising first, and a run
trains as many from the front as time allows: more time only adds arms.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

ArmKey = tuple[str, int]
"""The label of a group of arms, and a seed."""

FIRST_SEEDS = 2
"""Seeds of the best group and the baseline that come before any other group: with fewer
than two the spread over seeds is unknown, and so there is no interval over them."""

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of the steps that all trainings may be cut to. Few and fixed, so that a later run with the
same budget uses the same and continues from stored results; below an eighth training is too
short."""


def first_round(
    baseline: Sequence[str], groups: Sequence[str], seeds: Sequence[int], done: Collection[ArmKey]
) -> list[ArmKey]:
    """The most promising group and the baseline, seed by seed for the first seeds; then the first
    seed of every other group.

    Args:
        baseline: labels that gains are measured against.
        groups: other labels, the most promising first.
        seeds: of every group, in their order.
        done: arms that need not be trained again.
    """
    best, others = groups[:1], groups[1:]
    arms = [(label, seed) for seed in seeds[:FIRST_SEEDS] for label in (*best, *baseline)]
    arms += [(label, seeds[0]) for label in others]
    return [arm for arm in arms if arm not in done]


def second_round(
    baseline: Sequence[str], ranked: Sequence[str], seeds: Sequence[int], done: Collection[ArmKey]
) -> list[ArmKey]:
    """What is left after the first round: every further seed of the baseline and of the best group,
    then all further seeds of the second best, and so on.

    Args:
        baseline: labels that gains are measured against; they are trained along with the best
        group. ranked: other labels whose first seed was trained, best on validation first. seeds:
        of every group, in their order. done: arms that need not be trained again.
    """
    best, others = ranked[:1], ranked[1:]
    arms = [(label, seed) for seed in seeds for label in (*baseline, *best)]
    arms += [(label, seed) for label in others for seed in seeds]
    return [arm for arm in arms if arm not in done]


@dataclass(frozen=True)
class Standing:
    """The arms that a decision can be based on."""

    seeds: tuple[int, ...]
    """Seeds that every finalist and the baseline have."""
    finalists: tuple[str, ...]
    """Labels of the groups that may be chosen, the baseline among them."""
    tried: tuple[str, ...]
    """Labels of other groups that have their first seed."""

    def keeps(self, arm: ArmKey) -> bool:
        """Whether an arm takes part in the decision."""
        label, seed = arm
        return (label in self.finalists and seed in self.seeds) or (
            label in self.tried and seed == self.seeds[0]
        )


def standing(
    finished: Collection[ArmKey],
    baseline: Sequence[str],
    transfers: Sequence[str],
    others: Sequence[str],
    seeds: Sequence[int],
) -> Standing | None:
    """The most seeds that the baseline and a group that transfers both have, and which groups do.

    Every arm that may be chosen has the same seeds as the baseline it is compared with, so that
    an arm that was trained earlier does not have more networks to average. What is compared depends
    on what was finished, never on how good it is.

    Args:
        finished: arms that were trained.
        baseline: labels that gains are measured against.
        transfers: labels of groups that use a source.
        others: labels of groups that use none, but the baseline.
        seeds: of every group, in their order.

    Returns:
        None if the two have no seed in common.
    """
    labels = (*baseline, *transfers, *others)
    for count in range(len(seeds), 0, -1):
        needed = tuple(seeds[:count])
        full = [name for name in labels if all((name, seed) in finished for seed in needed)]
        if set(baseline) <= set(full) and any(name in full for name in transfers):
            tried = [n for n in labels if n not in full and (n, seeds[0]) in finished]
            return Standing(needed, tuple(full), tuple(tried))
    return None
