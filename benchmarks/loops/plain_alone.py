"""The loop of a tutorial without worker processes: PIL between the steps, fp32."""

from torch import nn

from benchmarks.loops import plain
from benchmarks.loops.common import Task


def train(task: Task) -> nn.Module:
    """Train the task's network."""
    return plain.loop(task, workers=0)
