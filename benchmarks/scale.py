"""What two workers are worth: arms by threads, Dask and Ray, and one pretraining by two processes.

    python -m benchmarks.scale [--repeats 3] [--arm-steps 150]

Needs the extras demo, dask and ray. Arms train from scratch on the demo's digits, with one numeric
thread each. Every engine trains two arms one after the other and two at a time, in turns, after a
round that is not counted; efficiency is the first time over twice the second. A pretraining's speed
is taken between its 50th and its last step, so that starting costs nothing there. CPU-seconds are
those of this process and all that it started. Writes scale.json and scale.md to
benchmarks/results/.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.loops.common import SPEC
from benchmarks.measure import write

ENGINES = ("threads", "dask", "ray")
FOLDS = 2
SIZES = (64,)
LAYOUTS = {
    "this process, 1 thread": (0, 1),
    "torchrun, 1 process of 1 thread": (1, 1),
    "torchrun, 2 processes of 1 thread": (2, 1),
}
SUMS = """
import json, os, time, torch
from torch import distributed as d
torch.set_num_threads(1)
d.init_process_group("gloo")
medians = {}
for n in (256, 300_000, 25_000_000):
    x = torch.ones(n)
    times = []
    for _ in range(30 if n < 10**6 else 5):
        d.barrier()
        start = time.perf_counter()
        d.all_reduce(x)
        times.append(time.perf_counter() - start)
    medians[n] = sorted(times)[len(times) // 2]
if d.get_rank() == 0:
    print(json.dumps(medians))
d.destroy_process_group()
"""


def cpu() -> float:
    """CPU-seconds so far, of this process and of what it started."""
    total = 0.0
    for one in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU-seconds of some work."""
    wall, used = time.perf_counter(), cpu()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": cpu() - used}


def divided(name: str, settings: Any) -> Any:
    """A dataset of the demo, scanned and split."""
    from tasks.data.scan import scan
    from tasks.data.split import split_target
    from tasks.runtime.artifacts import Dataset, Divided
    from tasks.versioning import dataset_versions

    path = Path("data") / name
    scanned = scan.fn(
        Dataset(name, path, dataset_versions.fingerprint(path)),
        SPEC,
        settings.input,
    )
    return Divided(scanned, split_target.fn(scanned, settings, FOLDS))


def arms(settings: Any, repeats: int) -> dict[str, Any]:
    """Each engine: its start, and rounds of two arms, one after the other and together."""
    from prefect import flow

    from flows.runtime.run_flow import run

    target = divided("digits", settings)
    seeds = count(1)
    results: dict[str, Any] = {}

    @flow(name="scale")
    def measure() -> None:
        for engine in ENGINES:
            results[engine] = _engine(engine, settings, target, seeds, repeats)

    run(measure)
    return results


def _engine(
    engine: str, settings: Any, target: Any, seeds: "count[int]", repeats: int
) -> dict[str, Any]:
    from tasks.runtime.run_context import RunContext, TimeLimit
    from tasks.training import runners
    from tasks.training.adapt import ArmJob, adapt
    from transfer.arms.plan import ArmPlan
    from transfer.training.feature_cache import Features
    from transfer.training.recipe import Machine

    chosen = settings.run.model_copy(update={"task_runner": engine, "workers": 2})
    began = time.perf_counter()
    with runners.start(chosen, 2) as runner:
        started = time.perf_counter() - began
        plan, features = ArmPlan("scratch", (), "scratch"), Features()
        context = RunContext(
            {},
            target,
            SPEC,
            FOLDS,
            settings,
            Machine(),
            arms_at_once=2,
            time_limit=TimeLimit(time.time()),
        )

        def submit() -> Any:
            return runner.submit(adapt, ArmJob(plan, next(seeds)), context, runner.stop, features)

        def together() -> None:
            for future in [submit(), submit()]:
                runner.result(future)

        def in_turn() -> None:
            runner.result(submit())
            runner.result(submit())

        first = timed(together)
        rounds = [{"in turn": timed(in_turn), "together": timed(together)} for _ in range(repeats)]
    return {"start": started, "first": first, "rounds": rounds}


def pretraining(settings: Any, repeats: int) -> dict[str, Any]:
    """Images a second of one pretraining in each layout and batch size; layouts in turns."""
    source = divided("mnist", settings)
    results: dict[str, Any] = {f"{size}": {layout: [] for layout in LAYOUTS} for size in SIZES}
    for size in SIZES:
        for _ in range(repeats):
            for layout, (processes, threads) in LAYOUTS.items():
                pretrained = _pretrain(source, settings, size, processes, threads)
                results[f"{size}"][layout].append(pretrained)
    return results


def _pretrain(
    source: Any, settings: Any, size: int, processes: int, threads: int
) -> dict[str, Any]:
    import torch

    from tasks.training import torchrun
    from tasks.training.pretrain_job import Pretraining

    steps = 150
    training = settings.pretrain.training.model_copy(update={"steps": steps, "batch_size": size})
    pretrain_settings = settings.pretrain.model_copy(
        update={"training": training, "look_every": 10_000}
    )
    marks: dict[int, tuple[float, float]] = {}

    def mark(done: int, steps: int) -> None:
        marks[done] = time.perf_counter(), cpu()

    with tempfile.TemporaryDirectory() as out:
        work = Pretraining(
            name="mnist",
            parts=((source.scan.path, source.split.path),),
            backbone_spec=settings.backbone.backbone_spec,
            settings=pretrain_settings,
            device="cpu",
            precision="fp32",
            out=Path(out),
            checkpoint=Path(out) / "checkpoint",
            checkpoint_seconds=1e9,
            stop=Path(out) / "stop",
        )
        if processes:
            torchrun.run(work, processes, threads, mark)
        else:
            torch.set_num_threads(threads)
            work.run(mark)
        card = json.loads((Path(out) / "card.json").read_text())
    (start, used), (end, spent) = marks[50], marks[steps]
    made = (steps - 50) * size
    return {
        "images a second": made / (end - start),
        "CPU-milliseconds an image": 1000 * (spent - used) / made,
        "loss": card["history"]["loss"],
        "validation loss": min(card["history"]["validation_loss"]),
    }


def steps(settings: Any, size: int = 64) -> tuple[float, float]:
    """CPU-seconds of drawing and augmenting a batch of a pretraining, and of a whole step."""
    import torch

    from transfer.data.items import TrainItems, normalisation
    from transfer.methods.baselines.scratch import Scratch
    from transfer.models.network import build
    from transfer.training.batches import training_batch
    from transfer.training.loop import fit
    from transfer.training.recipe import Recipe

    torch.set_num_threads(1)
    images = torch.randint(0, 256, (size, 1, 28, 28)).byte()
    none = np.zeros(size, str)
    items = TrainItems(images, torch.arange(size) % 10, none, none)
    training = settings.pretrain.training.model_copy(update={"batch_size": size, "steps": 30})
    recipe = Recipe(training, settings.pretrain.augment, normalisation(items, SPEC), 10, spec=SPEC)
    turns, rows = count(), torch.arange(size)
    drawn = _seconds(
        lambda: training_batch(items, rows, recipe, 0, next(turns)), 30, time.process_time
    )

    def train() -> None:
        network = build(settings.backbone.backbone_spec, spec=SPEC, classes=10, seed=0)
        fit(Scratch(), Scratch().prepare(network, None, ()), items, recipe, seed=0)

    trained = _seconds(train, 3, time.process_time)
    return drawn, trained / training.steps


def rates(settings: Any) -> dict[str, float]:
    """What the cost model needs: hashing, decoding, sums between processes, keeping a result."""
    from PIL import Image

    from tasks.store import content_store
    from transfer.modalities.image.decoding.decode import decode
    from transfer.modalities.image.spec import ImageLimits

    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(file, "JPEG")
    data, limits, block = file.getvalue(), ImageLimits(), bytes(2**26)
    decoded = _seconds(lambda: decode(data, limits).image.resize((28, 28)), 300, time.process_time)
    hashed = _seconds(lambda: hashlib.sha256(block).digest(), 5, time.process_time)
    drawn, step = steps(settings)

    def keep(i: int) -> None:
        content_store.result(
            "kept",
            lambda out: (out / "weights").write_bytes(block[: 2 * 1_200_000]),
            inputs={"i": str(i)},
            settings={},
            code=["transfer.core.atomic_files"],
        )

    turns = count()
    kept = _seconds(lambda: keep(next(turns)), 5)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "sums.py"
        script.write_text(SUMS)
        own = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*torchrun, "--nproc-per-node", "2", "--local-addr", "127.0.0.1", script],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=True,
        )
    sums = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return {
        "JPEG bytes": len(data),
        "decode and shrink one, CPU-ms": 1000 * decoded,
        "SHA-256, MB a CPU-second": len(block) / hashed / 1e6,
        "draw and augment a batch of 64, CPU-ms": 1000 * drawn,
        "a step of 64 with that, CPU-ms": 1000 * step,
        "keep a result of 2.4 MB, ms": 1000 * kept,
        **{f"sum of {int(n):,} floats by 2 processes, ms": 1000 * s for n, s in sums.items()},
    }


def _seconds(
    work: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    work()
    seconds = []
    for _ in range(times):
        start = clock()
        work()
        seconds.append(clock() - start)
    return median(seconds)


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{results['cores']} cores, load {results['load']} before, medians of {results['repeats']} "
        f"(smallest to largest). An arm makes {results['arm steps']} steps on each of "
        f"{FOLDS} folds.",
        "",
        "| two arms by | engine starts, s | first round, s | in turn, s | together, s | "
        "efficiency | CPU-s in turn | CPU-s together |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for engine, arm_results in results["arms"].items():
        turn, both = (
            [one[key] for one in arm_results["rounds"]] for key in ("in turn", "together")
        )
        shares = [a["wall"] / (2 * b["wall"]) for a, b in zip(turn, both, strict=True)]
        lines.append(
            f"| {engine} | {arm_results['start']:.1f} | {arm_results['first']['wall']:.1f} "
            f"| {_spread([a['wall'] for a in turn])} | {_spread([b['wall'] for b in both])} "
            f"| {_spread(shares, 2)} | {_spread([a['cpu'] for a in turn])} "
            f"| {_spread([b['cpu'] for b in both])} |"
        )
    lines += [
        "",
        "| batch | one pretraining by | images a second | to 1 thread | CPU-ms an image | "
        "loss differs by at most |",
        "|---|---|---|---|---|---|",
    ]
    for size, layouts in results["pretraining"].items():
        plain = layouts["this process, 1 thread"]
        base = median(one["images a second"] for one in plain)
        for layout, runs in layouts.items():
            speeds = [one["images a second"] for one in runs]
            used = [one["CPU-milliseconds an image"] for one in runs]
            apart = np.abs(np.subtract(runs[0]["loss"], plain[0]["loss"])).max()
            lines.append(
                f"| {size} | {layout} | {_spread(speeds, 0)} | {median(speeds) / base:.2f} "
                f"| {_spread(used, 2)} | {apart:.1e} |"
            )
    lines += ["", "| rate, one process | measured |", "|---|---|"]
    lines += [f"| {name} | {value:,.3g} |" for name, value in results["rates"].items()]
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int = 1) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm-steps", type=int, default=150)
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as project:
        os.chdir(project)
        Path("params.yaml").touch()
        from tasks.runtime import environment

        environment.prepare(Path.cwd())
        logging.getLogger("crosstrain").disabled = True
        from tasks.versioning import demo_data
        from transfer.settings.project import Settings

        demo_data.write(Path("data"))
        training = {"steps": arguments.arm_steps, "batch_size": 32}
        settings = Settings.model_validate({"adapt": {"training": training, "folds": FOLDS}})
        results = {
            "cores": os.cpu_count(),
            "load": load,
            "repeats": arguments.repeats,
            "arm steps": arguments.arm_steps,
            "pretraining": pretraining(
                settings, arguments.repeats
            ),  # before anything of Ray's is left
            "arms": arms(settings, arguments.repeats),
            "rates": rates(settings),
        }
    write("scale", results, table(results))


if __name__ == "__main__":
    main()
