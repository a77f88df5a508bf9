"""What a run works with from its first training on: data, settings, machine and time."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.runtime.artifacts import Divided
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings
from transfer.training.recipe import Machine


@dataclass(frozen=True)
class TimeLimit:
    """When a run began, and the wall time that it may take."""

    began: float
    """Seconds since the epoch."""
    seconds: float | None = None
    """None where there is no limit."""

    def spent(self) -> float:
        """Seconds since the run began."""
        return time.time() - self.began

    def left(self) -> float:
        """Seconds until the limit; infinite where there is none."""
        return (math.inf if self.seconds is None else self.seconds) - self.spent()


@dataclass(frozen=True)
class RunContext:
    """Everything that the trainings of a run share. Travels to worker processes as it is."""

    sources: Mapping[str, Divided]
    """The source datasets by name, in the order of the settings."""
    target: Divided
    spec: InputSpec
    """What every input is brought to."""
    folds: int
    """Within the labelled items of the target; 0 selects on the validation split."""
    settings: Settings
    machine: Machine
    arms_at_once: int
    """Trainings at the same time, 1 or more."""
    time_limit: TimeLimit

    @property
    def pretrainings(self) -> dict[str, Mapping[str, Divided]]:
        """The datasets that each backbone is pretrained on, by the name of the pretraining."""
        each: dict[str, Mapping[str, Divided]] = {n: {n: d} for n, d in self.sources.items()}
        if self.settings.pretrain.jointly and len(self.sources) > 1:
            each[" and ".join(self.sources)] = self.sources
        return each

    @property
    def labelled(self) -> bool:
        """Whether items of the target are labelled."""
        return self.settings.target.labels_per_class != 0
