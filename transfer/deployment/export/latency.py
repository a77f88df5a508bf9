"""How long answers take. Several engines take turns, so that what else a machine does hits all."""

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
    """What one batch takes."""

    batch: int
    """Items at once."""
    threads: int
    milliseconds: float
    """Median of its turns' medians."""


def thread_counts() -> tuple[int, ...]:
    """One thread, and all that this machine has."""
    return tuple(dict.fromkeys((1, os.cpu_count() or 1)))


def measure(
    engines: Mapping[str, Callable[[int], Answer]], records: NDArray[Any]
) -> dict[str, list[Latency]]:
    """Time every engine on batches of 1 and of 128, with one thread and with all.

    Args:
        engines: for each name what makes an answer that uses so many threads.
        records: at least one (N, ...); they are repeated to fill a batch.
    """
    found: dict[str, list[Latency]] = {name: [] for name in engines}
    for threads in thread_counts():
        answers = {name: engine(threads) for name, engine in engines.items()}
        for batch in BATCHES:
            some = np.resize(records, (batch, *records.shape[1:]))
            for name, seconds in _in_turns(answers, some).items():
                told = round(1000 * seconds, 3)
                found[name].append(Latency(batch=batch, threads=threads, milliseconds=told))
    return found


def _in_turns(answers: Mapping[str, Answer], records: NDArray[Any]) -> dict[str, float]:
    turns: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(TURNS):
        for name, answer in answers.items():
            turns[name].append(_turn(answer, records))
    return {name: median(seconds) for name, seconds in turns.items()}


def _turn(answer: Answer, records: NDArray[Any]) -> float:
    """Median seconds of the calls that a twentieth of a second allows, after one that warms up."""
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
    """Let torch use so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
