"""How far a long step is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.runtime.step import log

SECONDS = 10.0
"""Between two lines."""


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on the standard error; gives a function of how many more are done."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total)
        yield lambda more: shown.advance(task, more)


def _lines(what: str, total: int) -> Callable[[int], None]:
    done, last = 0, time.perf_counter()

    def tell(more: int) -> None:
        nonlocal done, last
        done += more
        if time.perf_counter() - last >= SECONDS:
            last = time.perf_counter()
            log.info("%-22s %d of %d", what, done, total)

    return tell
