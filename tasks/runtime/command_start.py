"""When a run began: for a person at a terminal that is when the command did."""

import time

_begun: list[float] = []


def begin() -> None:
    """The command that starts the next run of this process begins now."""
    _begun[:] = [time.time()]


def began() -> float:
    """When the run that asks began, in seconds since the epoch; now where no command said so."""
    return _begun.pop() if _begun else time.time()
