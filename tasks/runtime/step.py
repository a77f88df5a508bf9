"""Turns a function into a step of the chain.

Prefect runs and shows the steps. `tasks.store.content_store` decides which results are reused, so
Prefect's own caching is off. Each step logs what it did and how long it took.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.runtime.artifacts import ArmRef, Dataset, Ref, Source
from transfer.core.errors import CrosstrainError

Function = TypeVar("Function", bound=Callable[..., Any])
log = logging.getLogger("crosstrain")
log.setLevel(logging.INFO)


class Stopwatch:
    """Records when each step of a run was running; steps may overlap."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._reused: dict[str, bool] = {}
        self._started = time.perf_counter()

    def add(self, name: str, start: float, end: float, reused: bool) -> None:
        """Record one call of a step."""
        with self._lock:
            self._spans.setdefault(name, []).append((start, end))
            self._reused[name] = self._reused.get(name, True) and reused

    def total(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def seconds(self) -> dict[str, float]:
        """Wall time of each step; calls that overlap count once."""
        return {name: round(_union(spans), 3) for name, spans in self._spans.items()}

    def between(self) -> float:
        """Seconds so far in which no step was running."""
        spans = [span for step_spans in self._spans.values() for span in step_spans]
        return self.total() - _union(spans)

    def reused(self) -> list[str]:
        """Steps of which every call used a stored result."""
        return [name for name, reused in self._reused.items() if reused]


def _union(spans: Sequence[tuple[float, float]]) -> float:
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


_active_stopwatches: list[Stopwatch] = []


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time the steps that run inside the block."""
    _active_stopwatches.append(Stopwatch())
    try:
        yield _active_stopwatches[-1]
    finally:
        _active_stopwatches.pop()


def step(
    name: str, *, tags: Sequence[str], retries: int = 0, timeout: float | None = None
) -> Callable[[Function], Any]:
    """Make a Prefect task that caches and persists nothing by itself.

    Args:
        name: shown in the Prefect UI and in the log.
        tags: for filters in the UI.
        retries: number of retries; only for a cause that can pass, such as a busy database.
        timeout: seconds.
    """

    def decorate(function: Function) -> Any:
        return task(
            name=name,
            tags=list(tags),
            retries=retries,
            retry_delay_seconds=2,
            timeout_seconds=timeout,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(_logged(name, function))

    return decorate


def quietly(task: Any) -> Callable[..., Any]:
    """The plain function of a step: a call is neither a Prefect task run nor logged."""
    function: Callable[..., Any] = task.fn.__wrapped__
    return function


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Prefix the message of a `CrosstrainError` with the name of the training that raised it."""
    try:
        yield
    except CrosstrainError as error:
        raise type(error)(f"{what}: {error}") from error


def progress(description: str, seconds: float = 10.0) -> Callable[[int, int], None]:
    """Log the progress of a training, at most once in `seconds`.

    Returns:
        A function that takes the number of finished steps and the number of all steps.
    """
    last_logged = time.perf_counter()

    def report(finished: int, steps: int) -> None:
        nonlocal last_logged
        if time.perf_counter() - last_logged >= seconds:
            last_logged = time.perf_counter()
            log.info("%-22s %5d of %d steps", description, finished, steps)

    return report


def _logged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        note(name, time.perf_counter() - start, result, *args)
        return result

    return run


def note(name: str, seconds: float, result: object, *args: object) -> None:
    """Add a step that has just ended to the log and to the stopwatch."""
    ref = getattr(result, "ref", None) or getattr(result, "knowledge", None) or result
    reused = isinstance(ref, Ref) and ref.reused
    description = " ".join([name, *_subject_name(result, *args)])
    log.info("%-22s %7.1f s%s", description, seconds, "  (stored)" if reused else "")
    if _active_stopwatches:
        end = time.perf_counter()
        _active_stopwatches[-1].add(name, end - seconds, end, reused)


def _subject_name(*arguments: object) -> list[str]:
    """The name of the arm, dataset or source of a call, if the step runs once for each of them."""
    for argument in arguments:
        if isinstance(argument, ArmRef):
            return [argument.name]
        if isinstance(argument, Dataset | Source):
            return [argument.name]
    return []
