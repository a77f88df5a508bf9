"""Trainings that end when the run they belong to does, or when its time is up."""

import time
from dataclasses import dataclass, field
from threading import Event

from transfer.checkpoint import Keeper


class TimeUpError(Exception):
    """A training was still at work at the time at which it had to end."""


@dataclass
class Stoppable(Keeper):
    """Keeps one more checkpoint when the run is told to stop, and ends the training there."""

    stop: Event = field(default_factory=Event)
    until: float | None = None
    """When the training has to end, in seconds since the epoch; None lets it go on."""

    def due(self) -> bool:
        return self.stop.is_set() or is_over(self.until) or super().due()

    def save(self, state: dict[str, object]) -> None:
        super().save(state)
        if self.stop.is_set():
            raise KeyboardInterrupt
        check_time(self.until)


def is_over(until: float | None) -> bool:
    """Whether a time, in seconds since the epoch, has come; None never does."""
    return until is not None and time.time() >= until


def check_time(until: float | None) -> None:
    """Let nothing begin that has no time.

    Raises:
        TimeUpError: the time has come.
    """
    if is_over(until):
        raise TimeUpError
