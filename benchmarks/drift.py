"""How often the drift tests alarm: on new samples of the same data, and on shifted data.

    python -m benchmarks.drift PROJECT [--resamples 300] [--repeats 25] [--parts alarms]

PROJECT is a folder in which `crosstrain demo` has run; its champion looks at the digits' test
split, at MNIST, and at test digits that are rotated, blurred, paler, or lack a class. Each resample
draws a reference of 500 and so many new items anew; in the last row of the first table the
reference is the one in the champion's folder. Two files in a hundred are broken, there and in new
data. New samples have labels, so that every test takes part; shifted ones have none. Writes
drift.json and drift.md to benchmarks/results/. The coverage of the estimated accuracy is simulated.
"""

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tasks.runtime import environment, paths

RESULTS = Path("benchmarks/results").absolute()
ITEMS = (10, 20, 50, 100)
REFERENCE = 500
BROKEN = 0.02
BETAS = ((1, 1), (2, 0.5), (9, 0.3), (20, 0.3))  # of calibrated confidences
BIASES = (0.0, -0.2)
LABELLED = ((10, 100), (20, 500), (50, 500), (200, 1000))
SIMULATED = 2000
PERMUTATIONS = 599  # the fewest that a level of 1 % over six tests allows


@dataclass(frozen=True)
class Pool:
    """Items to draw from, with the champion's outputs for them."""

    outputs: Any
    labels: np.ndarray
    right: np.ndarray


def rotated(degrees: float) -> Callable[[Tensor], Tensor]:
    """Turn images (N, C, H, W) uint8 about their centre."""

    def turn(images: Tensor) -> Tensor:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        matrix = torch.tensor([[c, -s, 0], [s, c, 0]]).expand(len(images), 2, 3)
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        turned = functional.grid_sample(
            images.float(), grid, padding_mode="border", align_corners=False
        )
        return turned.round().byte()

    return turn


def blurred(images: Tensor) -> Tensor:
    """Mean over 3 x 3 pixels."""
    padded = functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, 1).round().byte()


def paler(factor: float) -> Callable[[Tensor], Tensor]:
    """Draw every pixel towards the middle grey."""
    return lambda images: ((images.float() - 128) * factor + 128).round().byte()


SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rotation by 15°": rotated(15),
    "rotation by 30°": rotated(30),
    "blur 3 x 3": blurred,
    "contrast x 0.8": paler(0.8),
}


@cache
def champion(project: str) -> Any:
    """The champion of a project."""
    from tasks.registry import versions
    from tasks.tracking import files as model_files
    from transfer.models import predictor

    champion = versions.champion("crosstrain-digits")
    assert champion is not None, f"{project} has no champion; run `crosstrain demo` in it"
    return predictor.load(model_files.model_folder("crosstrain-digits", champion.version))


def looked_at(model: Any, images: Tensor, labels: np.ndarray) -> Pool:
    """What the champion makes of images."""
    from transfer.deployment.monitoring.reference import joined, look

    outputs = joined([look(model, part) for part in images.split(64)])
    return Pool(outputs, labels, outputs.probabilities.argmax(1) == labels)


def pools(project: str) -> tuple[dict[str, Pool], np.ndarray]:
    """Every pool by its name, and the rows of the test items in the champion's reference."""
    from tasks.data.scan import fingerprint, scan, specify
    from tasks.data.split import folds_for, split_target
    from transfer.data.items import test_items
    from transfer.data.manifest import Manifest
    from transfer.data.storage.tensor_store import on_disk
    from transfer.deployment.monitoring.reference import drawn
    from transfer.settings import project as typed

    model = champion(project)
    settings = typed.load(paths.PARAMS)
    source, target = fingerprint.fn(settings.source), fingerprint.fn(settings.target)
    spec = specify.fn(settings.input, [source, target])
    scanned = scan.fn(target, spec, settings.input)
    divided = split_target.fn(scanned, settings, folds_for(scanned, settings))
    items = test_items(scanned.path, divided.path)
    other = scan.fn(source, spec, settings.input).path
    mnist = on_disk(other)[::4]
    labels = items.labels.numpy()
    pools_by_shift = {"": looked_at(model, items.records, labels)}
    mnist_labels = Manifest.load(other).items["label"].to_numpy()[::4]
    pools_by_shift["MNIST"] = looked_at(model, mnist, mnist_labels)
    for name, shift in SHIFTS.items():
        pools_by_shift[name] = looked_at(model, shift(items.records), labels)
    pools_by_shift["no zeros"] = taken(pools_by_shift[""], np.flatnonzero(labels != 0))
    return pools_by_shift, drawn(items.ids.tolist())


def taken(pool: Pool, rows: np.ndarray) -> Pool:
    """Some items of a pool."""
    from transfer.deployment.monitoring.reference import Outputs

    outputs = Outputs(*(array[rows] for array in vars(pool.outputs).values()))
    return Pool(outputs, pool.labels[rows], pool.right[rows])


def alarm(reference_pool: Pool, new: Pool, seed: int, labelled: bool) -> tuple[list[str], bool]:
    """Which tests alarm, and whether a retrain is asked for."""
    from transfer.deployment.monitoring import drift
    from transfer.deployment.monitoring.reference import Reference

    rng = np.random.default_rng([seed, 7])
    files = 1800
    rejected = int(rng.binomial(files, BROKEN))
    reference = Reference(
        reference_pool.outputs,
        files - rejected,
        rejected,
        len(reference_pool.right),
        int(reference_pool.right.sum()),
    )
    settings = drift.MonitorSettings(permutations=PERMUTATIONS, seed=seed)
    tests = drift.run(
        reference,
        new.outputs,
        settings,
        rejected=int(rng.binomial(len(new.right), BROKEN)),
        right=int(new.right.sum()) if labelled else 0,
        labelled=len(new.right) if labelled else 0,
    )
    return [t.name for t in tests if t.drifted], drift.wants_retrain(tests, settings)


_POOLS: dict[str, Pool] = {}
_OWN: list[int] = []


def start(pools_by_shift: dict[str, Pool], own: np.ndarray) -> None:
    """Hand a worker what it draws from."""
    _POOLS.update(pools_by_shift)
    _OWN.extend(own.tolist())
    torch.set_num_threads(1)


def trial(job: tuple[str, int, int, bool]) -> tuple[list[str], bool]:
    """One draw of reference and new items: name of the pool, items, seed, the champion's own."""
    name, items, seed, own = job
    rng = np.random.default_rng(seed)
    plain = _POOLS[""]
    order = rng.permutation(len(plain.right))
    if own:
        order = np.array([*_OWN, *order[~np.isin(order, _OWN)]])
    reference_rows, rest = order[:REFERENCE], order[REFERENCE:]
    pool = _POOLS[name]
    if name == "no zeros":
        pool, rest = plain, rest[plain.labels[rest] != 0]
    elif name == "MNIST":
        rest = rng.permutation(len(pool.right))
    return alarm(taken(plain, reference_rows), taken(pool, rest[:items]), seed, not name)


def interval(hits: int, trials: int) -> list[float]:
    """Clopper-Pearson interval, 95 %."""
    from scipy.stats import binomtest

    confidence = binomtest(hits, trials).proportion_ci()
    return [float(confidence.low), float(confidence.high)]


def row(name: str, items: int, results: list[tuple[list[str], bool]]) -> dict[str, Any]:
    """Figures of some trials."""
    from transfer.deployment.monitoring.drift import TESTS

    alarms = sum(bool(names) for names, _ in results)
    return {
        "data": name,
        "items": items,
        "trials": len(results),
        "alarms": alarms,
        "interval": interval(alarms, len(results)),
        "retrains": sum(wanted for _, wanted in results),
        "by_test": {test: sum(test in names for names, _ in results) for test in TESTS},
    }


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f}"


def table(results: dict[str, Any]) -> str:
    """Markdown of both tables."""
    lines = [
        f"Demo digits; champion with {percent(results['accuracy'])} % of the test split right; "
        f"level 1 % over six tests; {PERMUTATIONS} permutations; "
        f"{results['seconds']} s on {results['cores']} cores.",
        "",
        "| fresh samples of the same data | resamples | alarms | rate, % | 95 % interval "
        "| retrains |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for entry in results["fresh"]:
        low, high = map(percent, entry["interval"])
        lines.append(
            f"| {entry['data']} | {entry['trials']} | {entry['alarms']} "
            f"| {percent(entry['alarms'] / entry['trials'])} | [{low}, {high}] "
            f"| {entry['retrains']} |"
        )
    alarms, trials = (sum(entry[key] for entry in results["fresh"]) for key in ("alarms", "trials"))
    low, high = map(percent, interval(alarms, trials))
    retrains = sum(entry["retrains"] for entry in results["fresh"])
    rate = percent(alarms / trials)
    lines += [
        f"| all | {trials} | {alarms} | {rate} | [{low}, {high}] | {retrains} |",
        "",
        f"Alarms on shifts, % of {results['shifted'][0]['trials']} draws, and how many ask for a "
        "retrain, by number of new items:",
        "",
        f"| shift | accuracy, % | {' | '.join(map(str, ITEMS))} | tests that alarm at "
        f"{ITEMS[-1]} |",
        f"|---|---:|{'---:|' * len(ITEMS)}---|",
    ]
    for name, accuracy in results["accuracies"].items():
        own = [entry for entry in results["shifted"] if entry["data"] == name]
        cells = [
            ", ".join(f"{100 * entry[key] / entry['trials']:.0f}" for key in ("alarms", "retrains"))
            for entry in own
        ]
        by = [
            f"{test} {100 * n / own[-1]['trials']:.0f}"
            for test, n in own[-1]["by_test"].items()
            if n
        ]
        lines.append(f"| {name} | {percent(accuracy)} | {' | '.join(cells)} | {', '.join(by)} |")
    lines += [
        "",
        f"Estimated accuracy, 95 % intervals, {SIMULATED} simulated samples:",
        "",
        "| true accuracy, % | bias of the confidence | labelled | unlabelled | covered, % "
        "| mean width, points |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for entry in results["coverage"]:
        lines.append(
            f"| {percent(entry['accuracy'])} | {entry['bias']:g} | {entry['labelled']} "
            f"| {entry['unlabelled']} | {percent(entry['covered'])} | {percent(entry['width'])} |"
        )
    return "\n".join(lines) + "\n"


def coverage() -> list[dict[str, Any]]:
    """How often the interval of an estimated accuracy holds the truth, nominally 95 %.

    Whether an item is right is drawn with its confidence, plus a bias, as probability.
    """
    from transfer.deployment.monitoring.accuracy_estimation import estimate

    rng, rows = np.random.default_rng(0), []
    for (a, b), bias, (n, more) in itertools.product(BETAS, BIASES, LABELLED):
        estimates = []
        for _ in range(SIMULATED):
            truth = rng.beta(a, b, n + more)
            right = rng.random(n + more) < truth
            sure = np.clip(truth + bias, 0, 1)
            estimates.append(estimate(right[:n], sure[:n], sure[n:], level=0.95))
        accuracy = a / (a + b)
        rows.append(
            {
                "accuracy": round(accuracy, 3),
                "bias": bias,
                "labelled": n,
                "unlabelled": more,
                "covered": float(np.mean([e.low <= accuracy <= e.high for e in estimates])),
                "width": float(np.mean([e.high - e.low for e in estimates])),
            }
        )
    return rows


def main() -> None:
    """Measure the parts that were asked for, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--parts", default="alarms,coverage", help="the other is kept")
    arguments = parser.parse_args()
    file = RESULTS / "drift.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if "alarms" in arguments.parts.split(","):
        results |= alarms(arguments.project, arguments.resamples, arguments.repeats)
    if "coverage" in arguments.parts.split(","):
        results["coverage"] = coverage()
    RESULTS.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "drift.md").write_text(table(results))
    print(table(results))


def alarms(project: Path, resamples: int, repeats: int) -> dict[str, Any]:
    """Alarms on fresh samples and on shifts."""
    os.chdir(project)
    environment.prepare(Path.cwd())
    started = time.perf_counter()
    pools_by_shift, inside = pools(str(project))
    with ProcessPoolExecutor(
        os.cpu_count(), initializer=start, initargs=(pools_by_shift, inside)
    ) as workers:

        def measure(name: str, label: str, items: int, trials: int, own: bool) -> dict[str, Any]:
            jobs = [(name, items, seed, own) for seed in range(trials)]
            results = row(label, items, list(workers.map(trial, jobs, chunksize=5)))
            print(json.dumps(results), flush=True)
            return results

        fresh = [measure("", f"{n} items", n, resamples, False) for n in ITEMS]
        label = "50 items, the champion's own reference"
        fresh.append(measure("", label, 50, resamples, True))
        shifted = [
            measure(name, name, n, repeats, False) for name in pools_by_shift if name for n in ITEMS
        ]
    return {
        "accuracy": float(pools_by_shift[""].right.mean()),
        "accuracies": {
            name: float(pool.right.mean()) for name, pool in pools_by_shift.items() if name
        },
        "fresh": fresh,
        "shifted": shifted,
        "seconds": round(time.perf_counter() - started),
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
