"""Which arms a run trains: methods crossed with the run's sources, and which of them continue
after the first seed.

Shapes: G groups of arms (a method, and its source in a run of several), N items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer.methods.lookup import known
from transfer.training.method import Method


@dataclass(frozen=True)
class Offer:
    """What the plan needs to know about a knowledge source."""

    name: str
    has_items: bool
    """Whether its labelled items are available; else it has weights alone."""
    trained_here: bool
    """Whether its backbone was trained by this run; else it came with a package, and is large."""
    covers: bool
    """Whether its classes include all of the target's."""
    parts: tuple[str, ...] = ()
    """The datasets, where one backbone was trained on several; they are sources themselves."""


@dataclass(frozen=True)
class ArmPlan:
    """One group of arms."""

    method: str
    sources: tuple[str, ...]
    """Names of what it transfers from."""
    label: str
    """Name of its arms: the method, and the source if there are several."""
    parts: tuple[str, ...] = ()
    """Names of the datasets within its sources, where a backbone was trained on several."""
    tuned: Method | None = None
    """The method with settings that a search found; None takes those of params.yaml."""


def plan(
    methods: Sequence[str],
    offers: Sequence[Offer],
    *,
    tune_packages: bool,
    labelled: bool = True,
) -> list[ArmPlan]:
    """Cross methods, and the baseline, with knowledge sources.

    A method that uses no source has one plan, before the others. A method that combines sources
    gets all of them at once. Every other method is planned with each source that has the data it
    reads. The backbone of a package is large: it stays frozen unless ``tune_packages``, so methods
    that train the backbone are not planned with it.

    If the target is not ``labelled``, only sources with all of its classes are used, and the
    baseline is the source's network unchanged instead of training from scratch.
    """
    kinds = known()
    order = dict.fromkeys(["scratch" if labelled else "source_only", *methods])
    offers = [offer for offer in offers if labelled or (offer.covers and offer.has_items)]
    plans = [ArmPlan(name, (), name) for name in order if not kinds[name].uses_source]
    for name in order:
        kind = kinds[name]
        if kind.combines and offers:
            plans.append(_planned(name, offers, name))
        elif kind.uses_source and not kind.combines:
            plans += [
                _planned(name, [offer], f"{name}/{offer.name}" if len(offers) > 1 else name)
                for offer in offers
                if _fits(kind, offer, tune_packages)
            ]
    return plans


def _planned(method: str, offers: Sequence[Offer], label: str) -> ArmPlan:
    parts = dict.fromkeys(part for offer in offers for part in offer.parts)
    return ArmPlan(method, tuple(offer.name for offer in offers), label, tuple(parts))


def _fits(kind: type[Method], offer: Offer, tune_packages: bool) -> bool:
    if (kind.reads_source and not offer.has_items) or not (kind.new_classes or offer.covers):
        return False
    return offer.trained_here or not kind.trains_backbone or tune_packages


def survivors(losses: Mapping[str, NDArray[np.float64]], keep: int) -> list[str]:
    """The groups that continue with all seeds: the ``keep`` best, and those level with the last.

    One rung of successive halving (Jamieson and Talwalkar, AISTATS 2016), with seeds as the
    resource. Level means that the mean paired difference of the losses is at most its standard
    error: such a difference is not evidence.

    Args:
        losses: (N,) validation log loss of each group's first seed, on the same items.
        keep: least number of groups, 1 or more.

    Returns:
        Labels, best first.
    """
    ranked = sorted(losses, key=lambda label: (float(losses[label].mean()), label))
    if len(ranked) <= keep:
        return ranked
    last = losses[ranked[keep - 1]]
    return ranked[:keep] + [label for label in ranked[keep:] if _level(losses[label], last)]


def _level(losses: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    excess = losses - best
    return bool(excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)))
