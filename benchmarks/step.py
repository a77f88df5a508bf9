"""Where the time of a training step goes, here and in another checkout.

    python -m benchmarks.step [--against CHECKOUT] [--turns 5]

Trains the network of `benchmarks.training` (width 16, pooled, 64 pictures a step, one thread) with
crosstrain's loop under torch's profiler, which counts processor time by operator; what no operator
took is Python and the profiler itself. The seconds of a step are measured without it, in turns.
Writes step.json and step.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import machine, write

STEPS = 60
KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution": ("convolution",),
    "batch normalisation": ("batch_norm",),
    "relu, additions, pooling": ("clamp_min", "threshold", "relu", "add", "max_pool", "mean"),
    "optimiser": ("adam", "Optimizer"),
    "drawing the batch": ("grid_sampl", "affine_grid", "rand", "index", "uniform", "bmm", "lerp"),
}


def kind(operator: str) -> str:
    """The row of the table that an operator counts in."""
    name = operator.removeprefix("aten::")
    for group, parts in KINDS.items():
        if any(part in name for part in parts):
            return group
    return "the rest"


def measure() -> dict[str, Any]:
    """Shares by kind of operator, and processor milliseconds of a step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.loops import ours
    from benchmarks.loops.common import Task, digits
    from transfer.models.network import BackboneSpec

    torch.set_num_threads(1)
    images, labels = digits()
    seen = slice(STEPS * 64)
    backbone_spec = BackboneSpec(name="resnet", options={"width": 16, "pool": True})
    task = Task(images[seen], labels[seen], backbone_spec, epochs=1, batch=64, seed=0)
    ours.train(task)
    start = time.process_time()
    ours.train(task)
    seconds = (time.process_time() - start) / STEPS
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        ours.train(task)
    shares: dict[str, float] = {}
    for event in profiled.key_averages():
        row = kind(event.key)
        shares[row] = shares.get(row, 0.0) + event.self_cpu_time_total / STEPS / 1e3
    return {"milliseconds": 1e3 * seconds, "operators": shares}


def ask(checkout: Path) -> dict[str, Any]:
    """What a process says that takes the library from a checkout, and this script from here."""
    paths = os.pathsep.join([str(checkout.resolve()), str(Path.cwd())])
    command = [sys.executable, "-P", "-m", "benchmarks.step", "--print"]
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    shares: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shares


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="measure once and print JSON")
    arguments = parser.parse_args()
    if arguments.print:
        print(json.dumps(measure()))
        return
    places = {"before": arguments.against} if arguments.against else {}
    places["here"] = Path.cwd()
    hardware, runs = machine(), {name: list[dict[str, Any]]() for name in places}
    for _ in range(arguments.turns):
        for name, place in places.items():
            runs[name].append(ask(place))
    rows = [*KINDS, "the rest"]

    def line(row: str) -> str:
        cells = [median(run["operators"].get(row, 0.0) for run in runs[name]) for name in places]
        return f"| {row} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"

    whole = [median(run["milliseconds"] for run in runs[name]) for name in places]
    lines = [
        f"{hardware['processor']}, load {hardware['load']} before, one thread; "
        f"processor milliseconds of a step of 64 pictures, medians of {arguments.turns} turns.",
        "",
        f"| | {' | '.join(places)} |",
        f"|---|{'---|' * len(places)}",
        *(line(row) for row in rows),
        f"| **a step, without the profiler** | {' | '.join(f'{ms:.2f}' for ms in whole)} |",
    ]
    write("step", {"machine": hardware, "runs": runs}, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
