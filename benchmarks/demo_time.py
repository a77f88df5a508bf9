"""Where the seconds of the demo go: a first run and an unchanged second one, from start to exit.

    python -m benchmarks.demo_time

Runs `crosstrain demo` twice in a new copy of the project, with a Prefect database that is made
beforehand, as `make demo` does. Writes demo_time.json and demo_time.md to benchmarks/results/.
"""

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

COPIED = ("params.yaml", "data.dvc")
AROUND = ("validate", "track", "register", "promote")
"""Steps that are not library work: validation, tracking, registry."""


def run(project: Path) -> dict[str, Any]:
    """Run the demo and say what it took."""
    crosstrain = Path(sys.executable).with_name("crosstrain")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    started = time.perf_counter()
    subprocess.run([crosstrain, "demo"], cwd=project, env=environment, check=True)
    wall = time.perf_counter() - started
    result = json.loads((project / "reports" / "retrain.json").read_text())
    steps = result["seconds"]["steps"]
    around = sum(steps.get(name, 0.0) for name in AROUND)
    library = result["seconds"]["total"] - result["seconds"]["between"] - around
    return {
        "wall": round(wall, 1),
        "library": round(library, 1),
        "validation, tracking, registry": round(around, 1),
        "start-up and orchestration": round(wall - library - around, 1),
        "recomputed": sorted(set(steps) - set(result["seconds"]["reused"])),
        "steps": steps,
        "accuracy": result["chosen"]["accuracy"],
        "gain": result["gain"],
        "verdict": result["verdict"],
    }


def table(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Markdown: seconds of both runs, by kind and by step."""
    kinds = ("wall", "library", "validation, tracking, registry", "start-up and orchestration")
    lines = ["| seconds | first run | unchanged second run |", "|---|---|---|"]
    lines += [f"| **{kind}** | {first[kind]} | {second[kind]} |" for kind in kinds]
    for name in first["steps"]:
        lines.append(f"| {name} | {first['steps'][name]:.2f} | {second['steps'][name]:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both runs and write the table."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        for name in COPIED:
            shutil.copy(name, project / name)
        environment = os.environ | {"PREFECT_HOME": str(project / ".prefect"), "DO_NOT_TRACK": "1"}
        prefect = Path(sys.executable).with_name("prefect")
        command = [prefect, "server", "database", "upgrade", "-y"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        first, second = run(project), run(project)
    results = {"cores": os.cpu_count(), "first": first, "second": second}
    write("demo_time", results, table(first, second))


if __name__ == "__main__":
    main()
