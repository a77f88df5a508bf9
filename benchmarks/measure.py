"""What benchmarks share: contenders in turns, processor and wall seconds, the files of results."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Took:
    """Seconds of one piece of work."""

    wall: float
    cpu: float
    """Of this process and of its children that have ended."""


def cpu() -> float:
    """Seconds of processor time so far, of this process and its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def timed(work: Callable[[], object]) -> Took:
    """Do it once."""
    clock, processor = time.perf_counter(), cpu()
    work()
    return Took(time.perf_counter() - clock, cpu() - processor)


def in_turns(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Took]]:
    """Do all of it ``rounds`` times, each after the other, so that a busy minute hits all alike;
    once before that, which does not count."""
    for function in work.values():
        function()
    taken: dict[str, list[Took]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            taken[name].append(timed(function))
    return taken


def middle(times: Sequence[Took]) -> Took:
    """Medians."""
    return Took(median(t.wall for t in times), median(t.cpu for t in times))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}


def write(name: str, results: Any, page: str) -> None:
    """Write ``name``.json and ``name``.md to benchmarks/results/, and print the latter."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1, default=asdict) + "\n")
    (RESULTS / f"{name}.md").write_text(page)
    print(page)
