"""What trainings cost on this machine: from stored results, or else from the first seconds of
the real trainings, which continue from there later."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tasks.runtime.run_context import RunContext
from tasks.runtime.step import quietly
from tasks.schedule import cost_history
from tasks.schedule.cost_history import Overhead
from tasks.schedule.training_plan import Costs
from tasks.training import machine as machines
from tasks.training.adapt import ArmJob, adapt
from tasks.training.cancellation import Stop, Stopped
from tasks.training.pretrain import pretrain
from transfer.arms.plan import ArmPlan
from transfer.data.manifest import Manifest
from transfer.data.splits import split
from transfer.training.feature_cache import Features

PROBE_SECONDS = 3.0
"""Seconds of a training whose steps are timed: long enough for a hundred steps of a small
network, short enough for a budget of a minute. The training continues from there."""
UNKNOWN_OVERHEAD = 12.0
"""Seconds after the trainings, if no run has ended here yet: as measured on two idle cores."""


def measure(context: RunContext, promote: bool) -> Costs:
    """What trainings and the rest of the run cost; trains for a few seconds if no stored result
    records it."""
    settings, own = context.settings, ("scratch", context.settings.backbone.name)
    started = context.time_limit.spent()
    name = next(iter(context.pretrainings))
    arms, step = cost_history.arm_steps(settings, context.spec), None
    step = cost_history.pretraining_step(name, settings)
    with ThreadPoolExecutor(context.arms_at_once) as pool:
        pretraining = pool.submit(_pretraining_step, name, context) if step is None else None
        if own not in arms and context.labelled:
            arms[own] = pool.submit(_scratch_step, context).result()
        step = pretraining.result() if pretraining else step
    assert step is not None
    arms.setdefault(own, step * max(1, context.folds))
    return Costs(_overhead(context, promote, started, arms[own]), step, arms)


def _overhead(context: RunContext, promote: bool, started: float, arm_step: float) -> Overhead:
    """The slowest of the latest runs. If none has ended here yet: as long as the slowest of them
    took to start, because both mostly wait for imports, servers and the disk; and for each arm
    a third of a training step per batch of the test split, because the backward pass takes twice as
    long as the forward pass."""
    cost_history.note_start(started)
    if measured := cost_history.overheads(promote):
        return max(measured, key=lambda overhead: overhead.base)
    manifest = Manifest.load(context.target.scan.path)
    items = (split.load(context.target.split.path, manifest)["split"] == "test").sum()
    batches = int(items) / context.settings.adapt.training.batch_size
    return Overhead(
        max(UNKNOWN_OVERHEAD, *cost_history.starts()), arm_step / 3 * batches / machines.cores()
    )


def _pretraining_step(name: str, context: RunContext) -> float:
    beside = min(1, context.arms_at_once - 1)
    return _timed(
        lambda stop, on_step: quietly(pretrain)(name, context, beside, stop, None, on_step),
        context.settings.pretrain.training.steps,
    )


def _scratch_step(context: RunContext) -> float:
    job = ArmJob(ArmPlan("scratch", (), "scratch"), context.settings.adapt.seeds[0])
    return _timed(
        lambda stop, on_step: quietly(adapt)(job, context, stop, Features(), None, on_step),
        context.settings.adapt.training.steps,
    )


def _timed(train: Callable[[Stop, Callable[[int, int], None]], object], steps: int) -> float:
    """Seconds of a step of a training, in all its folds together.

    Args:
        train: trains until it is stopped, and calls back after each step.
        steps: of each fold.
    """
    stop, began = Stop.of_run(), time.perf_counter()
    marks: list[tuple[int, float]] = []
    in_all = steps

    def on_step(done: int, all_steps: int) -> None:
        nonlocal in_all
        in_all = all_steps
        marks.append((done, time.perf_counter()))
        if marks[-1][1] - marks[0][1] >= PROBE_SECONDS:
            stop.set()

    try:
        train(stop, on_step)
    except Stopped:
        pass
    finally:
        stop.forget()
    (first, start), (last, end) = marks[0], marks[-1]
    each = (end - start) / (last - first) if last > first else end - began
    return each * in_all / steps
