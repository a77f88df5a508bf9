"""What the champion loses and gains on its way to the edge: size, latency, accuracy.

    python -m benchmarks.export [TFLITE_PYTHON]

Trains the demo's champion, one of a backbone 32 channels wide, and one of an ImageNet network, in
new copies of the project, and exports each to every format by the command line. TFLite is measured
where the Python of an environment with litert-torch is named. Writes export.json and export.md to
benchmarks/results/. Ratios are those of all threads of this machine; engines take turns.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")
COPIED = ("params.yaml", "data.dvc")
CHAMPIONS = {
    "demo": [],
    "demo, 32 channels wide": ["backbone.width=32"],
    "demo, EfficientNet-Lite0": [
        "pretrained=[efficientnet_lite0]",
        "input.pretrained_size=64",
        "adapt.methods=[linear_probe]",
    ],
}


def crosstrain(project: Path, *words: str) -> str:
    """Run a command; what it printed."""
    program = Path(sys.executable).with_name("crosstrain")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [program, *words], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"crosstrain {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(changes: list[str], tflite: str | None) -> list[dict[str, Any]]:
    """Train a champion, and report each of its exports; none is refused, so that all are listed."""
    sets = [word for change in changes for word in ("--set", change)]
    formats = ["onnx", "onnx-int8"] + (["tflite"] if tflite else [])
    options = ["--json", "--set", "export.margin=1", "--set", f"export.tflite_python={tflite}"]
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        for name in COPIED:
            shutil.copy(name, project / name)
        crosstrain(project, "demo", *sets)
        return [json.loads(crosstrain(project, "export", "--format", f, *options)) for f in formats]


def table(exports: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row for each champion and format."""
    lines = [
        "| champion | networks | format | MB | accuracy | change [95 %], points | same class, % | "
        "probability differs, mean; most | 1 picture, ms | 128 pictures, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for champion, reports in exports.items():
        torch = reports[0]["engines"][0]
        right = 100 * reports[0]["parity"]["model_accuracy"]
        head = f"| {champion} | {reports[0]['networks']}"
        lines.append(f"{head} | torch | {_mb(torch)} | {right:.1f} | | | | {_times(torch)} |")
        lines += [f"{head} | {_row(report)} |" for report in reports]
    footnote = f"Latencies with one thread / with all of them. {reports[0]['machine']}.\n"
    return "\n".join([*lines, "", _verdicts(exports), footnote])


def _row(report: dict[str, Any]) -> str:
    parity, engine = report["parity"], report["engines"][-1]
    point, low, high = (100 * parity["gain"][name] + 0.0 for name in ("point", "low", "high"))
    return (
        f"{report['format']} | {_mb(engine)} | {100 * parity['accuracy']:.1f} | "
        f"{point:+.2f} [{low:.2f}, {high:.2f}] | {100 * parity['agreement']:.2f} | "
        f"{parity['mean']:.1e}; {parity['largest']:.1e} | {_times(engine)}"
    )


def _mb(engine: dict[str, Any]) -> str:
    return f"{engine['bytes'] / 1e6:.2f}"


def _times(engine: dict[str, Any]) -> str:
    """One picture and 128: with one thread, then with all."""
    by = {(t["batch"], t["threads"]): t["milliseconds"] for t in engine["latencies"]}
    threads = sorted({t for _, t in by})
    return " | ".join(" / ".join(f"{by[b, t]:.2f}" for t in threads) for b in (1, 128))


def _verdicts(exports: dict[str, list[dict[str, Any]]]) -> str:
    lines = []
    for champion, reports in exports.items():
        (report,) = (candidate for candidate in reports if candidate["format"] == "onnx-int8")
        _, exact, small = report["engines"]
        pairs = zip(exact["latencies"], small["latencies"], strict=True)
        faster = ", ".join(
            f"{a['milliseconds'] / b['milliseconds']:.2f} (batch {a['batch']}, "
            f"{a['threads']} thread{'s' * (a['threads'] > 1)})"
            for a, b in pairs
        )
        lines.append(
            f"{champion}: int8 is {exact['bytes'] / small['bytes']:.2f} times smaller than fp32 "
            f"ONNX and faster by {faster}.\n"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every champion; the table grows with each."""
    tflite = str(Path(sys.argv[1]).absolute()) if len(sys.argv) > 1 else None
    exports: dict[str, list[dict[str, Any]]] = {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, changes in CHAMPIONS.items():
        exports[name] = measure(changes, tflite)
        (RESULTS / "export.json").write_text(json.dumps(exports, indent=1) + "\n")
        (RESULTS / "export.md").write_text(table(exports))
    print(table(exports))


if __name__ == "__main__":
    main()
