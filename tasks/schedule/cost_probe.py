"""How long a run's trainings take, found out before any begins, and how many steps they can have
within its budget."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from tasks.runtime.artifacts import Divided, Ref, Source
from tasks.runtime.step import log, quietly, step
from tasks.schedule import cost_history
from tasks.schedule.plan import is_baseline, likely, ordered, plans
from tasks.schedule.time_budget import LEAST, Allowance
from tasks.training import machine as machines
from tasks.training.adapt import adapt
from tasks.training.cancellation import Stop
from tasks.training.pretrain import pretrain
from transfer.arms import budget_policy
from transfer.arms.budget_policy import Cost
from transfer.arms.plan import Plan
from transfer.data.manifest import Manifest
from transfer.data.splits import split
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings
from transfer.training.feature_cache import Features
from transfer.training.recipe import Machine

ADVICE = 40
"""What the advisor takes, in steps of pretraining."""
READING = 0.25
"""What reading an item takes, as a share of a step's time for one."""
PAST = 0.0
"""A time at which nothing may be trained any more, and only what is stored is had."""
QUICK = 15.0
"""Seconds of a short training beyond which no longer one is made."""
DOUBT = 2.0
"""How many times too long a short training on a busy machine may make a long one look: what was
trained in vain is kept, and the next run goes on from there."""
SAFETY = 1.15
"""How many times as long as expected the least that is needed must have."""
UNSURE = 2.0
"""The same, where short trainings are all that tells what it costs: on two cores that other
programs use as well, real ones took up to 2.3 times as long as those had said."""


@dataclass(frozen=True)
class Bench:
    """What trainings are made of, for a look at what they cost."""

    parts: Mapping[str, Mapping[str, Divided]]
    """What each body is trained on, by its name; the first is the one that is needed."""
    target: Divided
    spec: InputSpec
    folds: int
    machine: Machine
    at_once: int

    @property
    def test_items(self) -> int:
        """Items of the test split."""
        manifest = Manifest.load(self.target.scan.path)
        return int((split.load(self.target.split.path, manifest)["split"] == "test").sum())

    def body(self, settings: Settings, until: float | None = None) -> Source | None:
        """The first body, where it can be had in time; a time that is past asks the store."""
        name = next(iter(self.parts))
        beside = min(1, self.at_once - 1)
        found: Source | None = quietly(pretrain)(
            name, self.parts[name], settings, self.machine, beside, Stop.of_run(), until
        )
        return found

    def arm(
        self, plan: Plan, seed: int, settings: Settings, sources: Any, until: float | None = None
    ) -> Any:
        """An arm, likewise."""
        return quietly(adapt)(
            plan,
            seed,
            self.target,
            self.spec,
            settings,
            self.machine,
            self.folds,
            self.at_once,
            Stop.of_run(),
            Features(),
            sources,
            until,
        )


def stored(plan: Plan, seed: int, sources: Sequence[Source], shared: Mapping[str, Any]) -> bool:
    """Whether an arm is there and need not be trained.

    Args:
        plan: the group of arms.
        seed: of the arm.
        sources: at least those that the plan names.
        shared: the other arguments of an arm.
    """
    told = {"plan": plan, "seed": seed, "sources": sources, "until": PAST, **shared}
    with ThreadPoolExecutor(1) as aside:  # this thread keeps its numeric threads
        return aside.submit(quietly(adapt), **told).result() is not None


def rest(allowance: Allowance, settings: Settings) -> float:
    """Seconds of what is needed after pretraining."""
    arms = [allowance.cost(likely(settings), settings.adapt.training.steps)] * 2
    return SAFETY * budget_policy.ends(arms, machines.cores())


def scaled(settings: Settings, share: float) -> Settings:
    """The settings with a share of the steps of every training, of each at least one."""
    if share == 1.0:
        return settings

    def cut(section: Any) -> Any:
        steps = max(1, round(share * section.training.steps))
        return section.model_copy(
            update={"training": section.training.model_copy(update={"steps": steps})}
        )

    return settings.model_copy(
        update={"pretrain": cut(settings.pretrain), "adapt": cut(settings.adapt)}
    )


@step("trial", tags=["train"])
def suit(allowance: Allowance, bench: Bench, settings: Settings) -> Settings:
    """The settings with as many steps as there is time for, the same share for all trainings.

    What no decision can do without is one body, and, for two seeds, the baseline and one method.
    Where that has time, no step is taken from any training; where the smallest share of the steps
    has not even half of its time, nothing is trained. What is stored takes no time.

    Raises:
        SettingsError: the budget is too short for any decision.
    """
    allowance.arrive()
    body, sure = _measure(allowance, bench, settings)

    def least(share: float, safety: float = SAFETY if sure else UNSURE) -> float:
        cut = scaled(settings, share)
        return safety * _seconds(_lacking(bench, cut), allowance, body, bench.at_once, cut)

    smallest, left = budget_policy.SHARES[-1], allowance.left(LEAST)
    share = budget_policy.affordable(least, left) or smallest
    if share == smallest and (needed := least(share, SAFETY)) > DOUBT * left:
        raise allowance.refusal(needed)
    if share < 1.0:
        log.info("every training has %g of its steps: there is no time for more", share)
    allowance.share = share
    return scaled(settings, share)


@dataclass(frozen=True)
class _Lacking:
    """What is not stored of the least that is needed."""

    body: bool
    alone: list[Plan]
    """One for each seed of the baseline that is not there; so below."""
    helped: list[Plan]


def _lacking(bench: Bench, settings: Settings) -> _Lacking:
    seeds = budget_policy.least_seeds(settings.adapt.seeds)
    own = [one for one in plans(settings, bench.target, []) if is_baseline(one, settings)]
    with ThreadPoolExecutor(1) as aside:  # this thread keeps its numeric threads
        body = aside.submit(bench.body, settings, PAST).result()

        def not_there(planned: Plan) -> list[Plan]:
            sources = [body] if body else []
            told = [
                aside.submit(bench.arm, planned, seed, settings, sources, PAST) for seed in seeds
            ]
            return [planned for arm in told if arm.result() is None]

        alone = [one for planned in own for one in not_there(planned)]
        if body is None:
            return _Lacking(True, alone, [likely(settings)] * len(seeds))
        first = ordered(plans(settings, bench.target, [body]), settings)[0]
        return _Lacking(False, alone, not_there(first))


def _seconds(
    lacking: _Lacking, allowance: Allowance, body: Cost, at_once: int, settings: Settings
) -> float:
    """How long what is not stored takes."""
    steps = settings.adapt.training.steps
    alone = [allowance.cost(one, steps) for one in lacking.alone]
    helped = [allowance.cost(one, steps) for one in lacking.helped]
    pretraining = [body.at(settings.pretrain.training.steps)] if lacking.body else []
    advice = ADVICE * body.step if lacking.body else 0.0
    return (
        budget_policy.ends([*pretraining, *alone], at_once)
        + advice
        + budget_policy.ends(helped, at_once)
    )


def _measure(allowance: Allowance, bench: Bench, settings: Settings) -> tuple[Cost, bool]:
    """Tell the allowance what arms and reading cost, and return what the first body costs, and
    whether stored results say all this; otherwise short trainings do."""
    arms, own = cost_history.of_arms(settings, bench.spec), ("scratch", settings.backbone.name)
    bodies, name = cost_history.of_bodies(settings), next(iter(bench.parts))
    sure = name in bodies and own in arms
    with ThreadPoolExecutor(bench.at_once) as pool:
        tried = name not in bodies and pool.submit(_short, partial(_try_body, bench, settings))
        if own not in arms and settings.target.labels_per_class != 0:
            arms[own] = pool.submit(_short, partial(_try_arm, bench, settings)).result()
        body = tried.result() if tried else bodies[name]
    shape = settings.adapt.training.batch_size / settings.pretrain.training.batch_size
    arms.setdefault(own, Cost(0.0, body.step * shape * max(1, bench.folds)))
    picture = arms[own].step / settings.adapt.training.batch_size
    allowance.learn(arms)
    allowance.reads(READING * picture * bench.test_items / machines.cores())
    return body, sure


def _try_body(bench: Bench, settings: Settings, steps: int) -> float:
    found = bench.body(scaled(settings, steps / settings.pretrain.training.steps))
    assert found is not None
    return _forgotten(found.knowledge)


def _try_arm(bench: Bench, settings: Settings, steps: int) -> float:
    cut = scaled(settings, steps / settings.adapt.training.steps)
    plan = Plan("scratch", (), "short training")
    return _forgotten(bench.arm(plan, settings.adapt.seeds[0], cut, []).ref)


def _forgotten(ref: Ref) -> float:
    """Seconds of a short training, which is not stored: another day it may take less."""
    shutil.rmtree(ref.path)
    return ref.seconds


def _short(train: Callable[[int], float]) -> Cost:
    """What short trainings say of long ones."""
    few, more = cost_history.TRIAL
    train(1)  # what is imported and read for the first time is not counted
    first = train(few)
    if first > QUICK:
        return Cost(0.0, first / few)
    return Cost.through((few, first), (more, train(more)))
