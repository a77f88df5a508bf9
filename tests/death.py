"""Runs an action in a process that is killed in the middle."""

import os
import signal
from collections.abc import Callable
from typing import Any

DISK_CHANGES = ("fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")


def die_at(count: int, action: Callable[[], object]) -> int:
    """Run an action in a forked process that is killed before its nth change of the disk.

    Returns:
        The exit status: 0 for success, 1 for an error, -9 for a killed process.
    """
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    remaining, status = [count], 1

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            remaining[0] -= 1
            if remaining[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in DISK_CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    try:
        action()
        status = 0
    finally:
        os._exit(status)
