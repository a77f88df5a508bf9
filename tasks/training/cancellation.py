"""Trainings that end when the run they belong to does, in whatever process they are, or when their
time is up."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tasks.runtime import paths
from transfer.core.atomic_files import write_atomic
from transfer.models.checkpoint import Keeper


class Stopped(BaseException):
    """A training was told to stop. No error: engines show it as a crash, as they do Ctrl-C, which
    ends a worker's process and is therefore not used."""


@dataclass(frozen=True)
class Stop:
    """The word to stop, for all trainings of a run: a file, so that it reaches other processes,
    and other machines that see the project's folder."""

    path: Path

    @classmethod
    def of_run(cls) -> "Stop":
        """For a new run."""
        return cls(paths.BUILD / "stop" / uuid4().hex)

    def set(self) -> None:
        """Tell all trainings to end at their next step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, b"")

    def is_set(self) -> bool:
        """Whether they were told."""
        return self.path.exists()

    def check(self) -> None:
        """Begin nothing after the word was given.

        Raises:
            Stopped: it was.
        """
        if self.is_set():
            raise Stopped

    def forget(self) -> None:
        """Remove the file of a run that has ended."""
        self.path.unlink(missing_ok=True)


class TimeUpError(Exception):
    """A training was still at work at the time at which it had to end."""


@dataclass
class Stoppable(Keeper):
    """Keeps one more checkpoint when the run is told to stop, and ends the training there."""

    stop: Stop = field(default_factory=Stop.of_run)
    until: float | None = None
    """When the training has to end, in seconds since the epoch; None lets it go on."""

    def due(self) -> bool:
        return self.stop.is_set() or is_over(self.until) or super().due()

    def save(self, state: dict[str, object]) -> None:
        super().save(state)
        self.stop.check()
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
