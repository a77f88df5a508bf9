"""When Python looks for garbage.

What is imported makes objects by the hundred thousand, all of which stay. Looking through them,
again and again while they get more, took a fifth of the time of a command.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 200_000
"""Objects more than before, after which Python looks; its own number is 700."""


def put_off() -> None:
    """Look seldom from now on."""
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])


def look_again() -> None:
    """Look as often as Python does, at what is made from now on."""
    gc.freeze()
    gc.set_threshold(700, 10, 10)


@contextmanager
def seldom() -> Iterator[None]:
    """Look seldom during a block that imports much."""
    before = gc.get_threshold()
    put_off()
    try:
        yield
    finally:
        gc.set_threshold(*before)
