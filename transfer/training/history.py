"""Curves of a training run."""

from dataclasses import dataclass, field


@dataclass
class History:
    """Curves of a training run: step numbers from 1; each loss is the mean over the samples since
    the previous entry."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_step: list[int] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)

    def add(self, phase: "History") -> None:
        """Append the curves of a later phase, its steps counted from the end of this one."""
        offset = self.step[-1] if self.step else 0
        for name, values in vars(phase).items():
            later = [offset + v for v in values] if name.endswith("step") else values
            getattr(self, name).extend(later)
