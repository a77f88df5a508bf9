"""Progress of a long step: a bar on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.runtime.step import log

SECONDS = 10.0
"""Least time between two log lines."""


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error.

    Yields a function that takes the number of items finished since its last call.
    """
    if not sys.stderr.isatty():
        yield _log_lines(description, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(description, total=total)
        yield lambda newly_done: display.advance(task, newly_done)


def _log_lines(description: str, total: int) -> Callable[[int], None]:
    done, last_logged = 0, time.perf_counter()

    def advance(newly_done: int) -> None:
        nonlocal done, last_logged
        done += newly_done
        if time.perf_counter() - last_logged >= SECONDS:
            last_logged = time.perf_counter()
            log.info("%-22s %d of %d", description, done, total)

    return advance
