"""Fixed costs: what a run takes besides the library's work, and what a short command takes.

    python -m benchmarks.overhead [--against OTHER_CHECKOUT] [--times 5]

In a new project with the demo's data and a training of a few steps: the first run, unchanged ones,
and commands that only ask. CPU-seconds are those of a command and of all that it started, Prefect's
server included, to the end of the last one. With another checkout of the repository, the same is
done there, in turns. Writes overhead.json and overhead.md to benchmarks/results/. Linux only.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.measure import write

ROOT = Path(__file__).parents[1]
START = """
import sys
from flows.cli.main import main
sys.argv[0] = "crosstrain"
try:
    main()
finally:
    print("\\nloaded", *sys.modules)
"""
SMALL: dict[str, Any] = {
    "input.size": 12,
    "backbone.width": 4,
    "pretrain.training.steps": 60,
    "adapt.methods": ["fine_tune"],
    "adapt.seeds": [0],
    "adapt.training.steps": 20,
    "evaluate.replicates": 200,
    "promote.rules": [{"rule": "servable"}],  # it learned next to nothing
}
"""The demo's settings, with next to no training."""
LIBRARY = (
    "fingerprint",
    "specify",
    "scan",
    "split target",
    "split source",
    "preview",
    "pretrain",
    "advise",
    "adapt",
    "search",
    "choose",
    "evaluate",
    "compose",
)
"""Steps that are library work; the others are validation, pictures, tracking and registry."""
ASKING = {"--help": ["--help"], "champion": ["champion"], "history": ["history"]}
HEAVY = ("torch", "prefect", "mlflow", "great_expectations", "matplotlib", "sklearn", "dvc")
PIECES = {
    "torch": "import torch",
    "pandas": "import pandas",
    "Prefect's client": "import prefect.flows",
    "Prefect's server": "import prefect.server.api.server",
    "MLflow": "import mlflow",
    "MLflow with its database": "import mlflow.store.tracking.sqlalchemy_store",
    "Great Expectations": "import great_expectations.expectations",
    "all modules of `crosstrain retrain`": "import flows.retrain",
}
SUBREAPER = 36  # of Linux's prctl: orphans of a child become ours, so their time is counted


def measure(words: list[str], project: Path, code: Path) -> dict[str, Any]:
    """Run a command of a checkout; seconds of the clock and of all processors, heavy imports."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    environment = kept | {"PYTHONPATH": str(code), "PREFECT_HOME": str(project / ".prefect")}
    before, began = _cpu(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=environment | {"DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{words[2:]} ended with {done.returncode}: {done.stderr}")
    own = _cpu() - before
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    modules = done.stdout.rpartition("\nloaded ")[2].split()
    heavy = [name for name in HEAVY if name in modules]
    return {"wall": wall, "cpu": own, "server": _cpu() - before - own, "imported": heavy}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def crosstrain(*words: str) -> list[str]:
    """The command line of a command."""
    return ["-c", START, *words]


def run(project: Path, code: Path) -> dict[str, Any]:
    """Retrain, and say where the seconds went."""
    usage = measure(crosstrain("retrain"), project, code)
    result = json.loads((project / "reports" / "retrain.json").read_text())["seconds"]
    steps = result["steps"]
    library = sum(seconds for name, seconds in steps.items() if name in LIBRARY)
    around = {name: seconds for name, seconds in steps.items() if name not in LIBRARY}
    phases = {
        "start and end: imports, Prefect's server": usage["wall"] - result["total"],
        "library": library,
        **around,
        "between steps: Prefect's bookkeeping": result["between"],
    }
    return {**usage, "overhead": usage["wall"] - library, "phases": phases}


def make(project: Path, code: Path) -> None:
    """Write a project with the demo's data and a Prefect database, as `make demo` does."""
    project.mkdir()
    own = code / "tasks/versioning/demo_params.yaml"
    settings = yaml.safe_load((own if own.exists() else code / "params.yaml").read_text())
    for key, value in SMALL.items():
        *sections, field = key.split(".")
        tree = settings
        for section in sections:
            tree = tree.setdefault(section, {})
        tree[field] = value
    (project / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    measure(crosstrain("data", "write"), project, code)
    measure(["-m", "prefect", "server", "database", "upgrade", "-y"], project, code)


def all_of(checkouts: dict[str, Path], times: int) -> dict[str, Any]:
    """Measure every checkout, in turns."""
    results: dict[str, Any] = {name: {"unchanged": [], "asking": {}} for name in checkouts}
    with tempfile.TemporaryDirectory() as scratch:
        places = {name: Path(scratch, name) for name in checkouts}
        for name, code in checkouts.items():
            make(places[name], code)
        for name, code in checkouts.items():
            results[name]["first"] = run(places[name], code)
        for _ in range(times):
            for name, code in checkouts.items():
                results[name]["unchanged"].append(run(places[name], code))
                for what, words in ASKING.items():
                    usage = measure(crosstrain(*words), places[name], code)
                    results[name]["asking"].setdefault(what, []).append(usage)
        pieces = {
            what: measure(["-c", script], places["here"], ROOT)["cpu"]
            for what, script in PIECES.items()
        }
    return {**results, "pieces": pieces}


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    names = [name for name in ("before", "here") if name in results]
    lines = [
        f"{results['cores']} cores, load {results['load']} before, "
        f"medians of {results['times']}. Wall seconds; "
        "in brackets CPU-seconds of the command + of Prefect's server.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        _row("first run", [_cell([results[n]["first"]]) for n in names]),
        _row("- of it not library work", [f"{results[n]['first']['overhead']:.1f}" for n in names]),
        _row("unchanged run", [_cell(results[n]["unchanged"]) for n in names]),
    ]
    lines += [
        _row(f"`{what}`", [_cell(results[n]["asking"][what]) for n in names]) for what in ASKING
    ]
    imports = [", ".join(results[n]["unchanged"][0]["imported"]) for n in names]
    lines.append(_row("an unchanged run imports", imports))
    for title, key in (("first run", "first"), ("unchanged run", "unchanged")):
        lines += ["", f"| wall seconds of the {title} | {' | '.join(names)} |"]
        lines += [f"|---|{'---|' * len(names)}"]
        phases = results[names[-1]]["first"]["phases"]
        for phase in phases:
            cells = [_phase(results[n][key], phase) for n in names]
            lines.append(_row(phase, cells))
    lines += ["", "| import, in a process of its own | CPU-seconds |", "|---|---|"]
    lines += [f"| {what} | {seconds:.2f} |" for what, seconds in results["pieces"].items()]
    return "\n".join(lines) + "\n"


def _row(what: str, cells: list[str]) -> str:
    return f"| {what} | {' | '.join(cells)} |"


def _cell(runs: list[dict[str, Any]]) -> str:
    wall, cpu, server = (median(run[key] for run in runs) for key in ("wall", "cpu", "server"))
    return f"{wall:.2f} ({cpu:.2f} + {server:.2f})" if server > 0.005 else f"{wall:.2f} ({cpu:.2f})"


def _phase(runs: Any, phase: str) -> str:
    seconds = [
        run["phases"].get(phase, 0.0) for run in (runs if isinstance(runs, list) else [runs])
    ]
    return f"{median(seconds):.2f}"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, as it was before")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    checkouts = {"before": arguments.against.resolve()} if arguments.against else {}
    load = round(os.getloadavg()[0], 1)
    results = {"cores": os.cpu_count(), "load": load, "times": arguments.times}
    results |= all_of({**checkouts, "here": ROOT}, arguments.times)
    write("overhead", results, table(results))


if __name__ == "__main__":
    main()
