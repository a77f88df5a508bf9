"""crosstrain's loop in bf16, for CPUs that have it."""

from torch import nn

from benchmarks.loops import ours
from benchmarks.loops.common import Task


def train(task: Task) -> nn.Module:
    """Train the task's network."""
    return ours.train(task, "bf16")
