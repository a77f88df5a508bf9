"""Whether a run keeps its time budget, and what it makes of it: first runs of the demo's data.

    python -m benchmarks.budget [--budgets 60s 90s 2m 5m none]

Each budget has a new project in which nothing is stored, and a second run there; with `none` there
is no budget. Wall time is that of the whole command, from its start to its end, whatever else the
machine does. Writes budget.json and budget.md to benchmarks/results/.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import write
from transfer.core.durations import seconds

COPIED = ("params.yaml", "data.dvc")
CROSSTRAIN = Path(sys.executable).with_name("crosstrain")
ROOT = Path(__file__).resolve().parents[1]


def environment(project: Path) -> dict[str, str]:
    """With Prefect's home in the project, and this checkout before any that is installed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    own = {"PREFECT_HOME": str(project / ".prefect"), "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    return kept | own


def run(project: Path, budget: str | None) -> dict[str, Any]:
    """One run, and what it left."""
    words = ["demo", *(["--budget", budget] if budget else [])]
    load, began = os.getloadavg()[0], time.monotonic()
    done = subprocess.run(
        [CROSSTRAIN, *words],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        check=False,
    )
    results = {
        "budget": seconds(budget) if budget else None,
        "wall": round(time.monotonic() - began, 1),
        "load": round(load, 1),
        "exit": done.returncode,
    }
    if done.returncode:
        return {**results, "said": done.stderr.strip().splitlines()[-1]}
    return results | _left(project)


def _left(project: Path) -> dict[str, Any]:
    """Of the report: how much was trained, and what was decided."""
    result = json.loads((project / "reports/retrain.json").read_text())
    budget = result["budget"] or {"share": 1.0, "left_out": {}}
    return {
        "share": budget["share"],
        "arms": len(result["arms"]),
        "finalists": len({arm["group"] for arm in result["arms"] if arm["finalist"]}),
        "seeds": len(result["seeds"]),
        "left_out": len(budget["left_out"]),
        "accuracy": result["chosen"]["accuracy"],
        "scratch": result["scratch"]["accuracy"],
        "verdict": result["verdict"],
        "promoted": result["promoted"],
    }


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{results['cores']} cores. Budget, wall time and their ratio in seconds; `load` is the "
        "machine's before the run, from whatever else it did.",
        "",
        "| budget | run | load | wall | wall / budget | steps | arms | methods with all seeds | "
        "seeds | left out | chosen | scratch | decision |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["runs"]:
        ratio = f"{row['wall'] / row['budget']:.2f}" if row["budget"] else "-"
        head = [row["budget"] or "none", row["run"], row["load"], row["wall"], ratio]
        lines.append(f"| {' | '.join(map(str, [*head, *_cells(row)]))} |")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    if row["exit"]:
        return [*["-"] * 7, f"exit {row['exit']}"]
    decision = f"{'promoted' if row['promoted'] else 'not promoted'}, {row['verdict']}"
    counts = [str(row[key]) for key in ("arms", "finalists", "seeds", "left_out")]
    shares = [f"{100 * row[key]:.1f}" for key in ("accuracy", "scratch")]
    return [f"{100 * row['share']:g} %", *counts, *shares, decision]


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", nargs="+", default=["60s", "90s", "2m", "5m", "none"])
    runs = []
    for named in parser.parse_args().budgets:
        budget = None if named == "none" else named
        with tempfile.TemporaryDirectory() as scratch:
            project = Path(scratch)
            for name in COPIED:
                shutil.copy(name, project / name)
            datasets = [CROSSTRAIN, "data", "write"]
            subprocess.run(datasets, cwd=project, env=environment(project), check=True)
            for turn in ("first", "second"):
                runs.append({"run": turn, **run(project, budget)})
                print(json.dumps(runs[-1]), flush=True)
    results = {"cores": os.cpu_count(), "runs": runs}
    write("budget", results, table(results))


if __name__ == "__main__":
    main()
