"""The start time of a run. For a run from a terminal, this is when the command was started."""

import time

_recorded: list[float] = []


def begin() -> None:
    """Record that the command that starts the next run of this process begins now."""
    _recorded[:] = [time.time()]


def began() -> float:
    """Take the recorded start time, seconds since the epoch; the current time without a record."""
    return _recorded.pop() if _recorded else time.time()
