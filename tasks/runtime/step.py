"""How a function becomes a step of the chain.

Prefect runs and shows the steps; what may be reused is decided by `tasks.store.content_store`, so
Prefect's own caching is off. Each step says on the log what it did and how long it took.
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
    """When each step of a run was at work; steps may overlap."""

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
        """Seconds so far in which no step was at work."""
        spans = [span for of_step in self._spans.values() for span in of_step]
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


_watches: list[Stopwatch] = []


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time the steps that run inside the block."""
    _watches.append(Stopwatch())
    try:
        yield _watches[-1]
    finally:
        _watches.pop()


def step(
    name: str, *, tags: Sequence[str], retries: int = 0, timeout: float | None = None
) -> Callable[[Function], Any]:
    """Make a Prefect task that caches and persists nothing by itself.

    Args:
        name: shown in the Prefect UI and on the log.
        tags: for filters in the UI.
        retries: only where trying again can help, such as a busy database.
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
        )(_told(name, function))

    return decorate


def quietly(task: Any) -> Callable[..., Any]:
    """The function of a step by itself: neither Prefect nor the log hears of a call."""
    function: Callable[..., Any] = task.fn.__wrapped__
    return function


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Put in front of the message of an error of ours which training it came from."""
    try:
        yield
    except CrosstrainError as error:
        raise type(error)(f"{what}: {error}") from error


def progress(what: str, seconds: float = 10.0) -> Callable[[int, int], None]:
    """Tell the log how far a training is, not more often than asked.

    Returns:
        A function of the steps done and the steps in all.
    """
    last = time.perf_counter()

    def tell(done: int, steps: int) -> None:
        nonlocal last
        if time.perf_counter() - last >= seconds:
            last = time.perf_counter()
            log.info("%-22s %5d of %d steps", what, done, steps)

    return tell


def _told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        note(name, time.perf_counter() - start, result, *args)
        return result

    return run


def note(name: str, seconds: float, result: object, *args: object) -> None:
    """Tell the log and the stopwatch of a step that has ended just now."""
    ref = getattr(result, "ref", None) or getattr(result, "knowledge", None) or result
    reused = isinstance(ref, Ref) and ref.reused
    what = " ".join([name, *_subject(result, *args)])
    log.info("%-22s %7.1f s%s", what, seconds, "  (stored)" if reused else "")
    if _watches:
        end = time.perf_counter()
        _watches[-1].add(name, end - seconds, end, reused)


def _subject(*told: object) -> list[str]:
    """What a call was about, where its step is called for several things in a run."""
    for one in told:
        if isinstance(one, ArmRef):
            return [one.name]
        if isinstance(one, Dataset | Source):
            return [one.name]
    return []
