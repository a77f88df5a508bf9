"""Trainings that end when the run they belong to does."""

from dataclasses import dataclass, field
from threading import Event

from transfer.checkpoint import Keeper


@dataclass
class Stoppable(Keeper):
    """Keeps one more checkpoint when the run is told to stop, and ends the training there."""

    stop: Event = field(default_factory=Event)

    def due(self) -> bool:
        return self.stop.is_set() or super().due()

    def save(self, state: dict[str, object]) -> None:
        super().save(state)
        if self.stop.is_set():
            raise KeyboardInterrupt
