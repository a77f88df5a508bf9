"""Latency of answers. Engines are timed in turns, so that other load on the machine affects all."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.core.config import Section
from transfer.deployment.export.onnx_file import Answer

BATCHES = (1, 128)
TURNS, WARM = 5, 1
LEAST, MOST = 2, 40
"""Calls in a turn."""
TURN = 0.05  # seconds


class Latency(Section):
    """Time for a batch."""

    batch: int
    """Items at once."""
    threads: int
    milliseconds: float
    """Median of its turns' medians."""


def thread_counts() -> tuple[int, ...]:
    """One thread, and all threads of this machine."""
    return tuple(dict.fromkeys((1, os.cpu_count() or 1)))


def measure(
    engines: Mapping[str, Callable[[int], Answer]], records: NDArray[Any]
) -> dict[str, list[Latency]]:
    """Time every engine on batches of 1 and of 128, with one thread and with all.

    Args:
        engines: for each name a function from a number of threads to an answer.
        records: (N, ...), N at least 1; they are repeated to fill a batch.
    """
    latencies: dict[str, list[Latency]] = {name: [] for name in engines}
    for threads in thread_counts():
        answers = {name: engine(threads) for name, engine in engines.items()}
        for batch in BATCHES:
            some = np.resize(records, (batch, *records.shape[1:]))
            for name, seconds in _in_turns(answers, some).items():
                milliseconds = round(1000 * seconds, 3)
                latency = Latency(batch=batch, threads=threads, milliseconds=milliseconds)
                latencies[name].append(latency)
    return latencies


def _in_turns(answers: Mapping[str, Answer], records: NDArray[Any]) -> dict[str, float]:
    turns: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(TURNS):
        for name, answer in answers.items():
            turns[name].append(_turn(answer, records))
    return {name: median(seconds) for name, seconds in turns.items()}


def _turn(answer: Answer, records: NDArray[Any]) -> float:
    """Median seconds of the calls that fit in a twentieth of a second, after a warm-up call."""
    for _ in range(WARM):
        answer(records)
    seconds: list[float] = []
    while len(seconds) < LEAST or (sum(seconds) < TURN and len(seconds) < MOST):
        began = time.perf_counter()
        answer(records)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
