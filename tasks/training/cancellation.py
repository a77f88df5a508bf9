"""Trainings that end with their run, in any process, or when their time is up."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tasks.runtime import paths
from transfer.core.atomic_files import write_atomic
from transfer.models.checkpoint import Keeper


class Stopped(BaseException):
    """A training received the signal to stop. It is no error: engines show it as a crash, as they
    show Ctrl-C, which would end a worker's process and is therefore not used."""


@dataclass(frozen=True)
class Stop:
    """The signal to stop, for all trainings of a run: a file, so that it reaches other
    processes, and other machines that mount the project's folder."""

    path: Path

    @classmethod
    def of_run(cls) -> "Stop":
        """For a new run."""
        return cls(paths.BUILD / "stop" / uuid4().hex)

    def set(self) -> None:
        """Signal all trainings to end at their next step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, b"")

    def is_set(self) -> bool:
        """Whether the signal was set."""
        return self.path.exists()

    def check(self) -> None:
        """Begin nothing after the signal was set.

        Raises:
            Stopped: the signal was set.
        """
        if self.is_set():
            raise Stopped

    def forget(self) -> None:
        """Remove the file of a run that has ended."""
        self.path.unlink(missing_ok=True)


class TimeUpError(Exception):
    """A training was still running at the time at which it had to end."""


@dataclass
class Stoppable(Keeper):
    """Writes one more checkpoint when the run is stopped, and ends the training there."""

    stop: Stop = field(default_factory=Stop.of_run)
    until: float | None = None
    """When the training has to end, in seconds since the epoch; None for no limit."""

    def due(self) -> bool:
        return self.stop.is_set() or is_over(self.until) or super().due()

    def save(self, state: dict[str, object]) -> None:
        super().save(state)
        self.stop.check()
        check_time(self.until)


def is_over(until: float | None) -> bool:
    """Whether a time, in seconds since the epoch, has been reached; None is never reached."""
    return until is not None and time.time() >= until


def check_time(until: float | None) -> None:
    """Begin nothing after the end of its time.

    Raises:
        TimeUpError: the time has been reached.
    """
    if is_over(until):
        raise TimeUpError
