"""A process that is killed in the middle of what it does."""

import os
import signal
from collections.abc import Callable
from typing import Any

DEADLY = ("fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")


def die_at(count: int, action: Callable[[], object]) -> int:
    """Do something in a forked process that is killed before its nth change of the disk.

    Returns:
        The status it ended with: 0 when it lived, 1 when it failed, -9 when it was killed.
    """
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left, status = [count], 1

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return step

    for name in DEADLY:
        setattr(os, name, mortal(getattr(os, name)))
    try:
        action()
        status = 0
    finally:
        os._exit(status)
