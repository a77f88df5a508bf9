"""How the memory of each step grows with the number of pictures.

    python -m benchmarks.memory [--items 200000 600000 2000000]

Makes two scans, a source and a target, of half of the pictures each (1 x 8 x 8 pixels, one in a
hundred a copy, one in ten in a group) and runs each step on them in a process of its own. The
figure is the peak of the resident set (VmHWM); the slope is that of a straight line through the
sizes. What is kept in memory of small datasets, up to 64 MiB of pictures a set of items, is left
on disk here, or it would look like a slope. Writes memory.json and memory.md to
benchmarks/results/.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import write

CHANNELS, SIDE, CLASSES, CHUNK = 1, 8, 10, 50_000
NAMES = tuple(f"class_{k}" for k in range(CLASSES))
SPEC = {"modality": "image", "size": SIDE, "channels": CHANNELS, "fit": "crop"}


def make(folder: Path, items: int, name: str) -> None:
    """Write a scan of so many pictures; their file is one hole, which takes no space."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True)
    writer = None
    for start in range(0, items, CHUNK):
        rows = range(start, min(start + CHUNK, items))
        part = pa.Table.from_pandas(_table(rows, items, name))
        writer = writer or parquet.ParquetWriter(folder / "manifest.parquet", part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()
    head = {"name": name, "modality": "image", "class_names": NAMES}
    (folder / "manifest.json").write_text(json.dumps(head))
    (folder / "rejects.json").write_text("[]")
    shape = [items, CHANNELS, SIDE, SIDE]
    facts = {"spec": SPEC, "items": items, "rejects": 0, "shape": shape}
    (folder / "scan.json").write_text(json.dumps({**facts, "dtype": "uint8"}))
    with (folder / "records.bin").open("wb") as file:
        file.truncate(items * CHANNELS * SIDE * SIDE)


def _table(rows: range, items: int, name: str) -> pd.DataFrame:
    pictures = [f"{name} {i - (i % 100 == 99)}".encode() for i in rows]
    digests = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    columns = {
        "id": [f"class_{i * CLASSES // items}/{i:09d}.png" for i in rows],
        "label": [i * CLASSES // items for i in rows],
        "group": [f"camera {i // 20}" if i // 20 % 10 == 0 else "" for i in rows],
        "given_split": "",
        "sha256": digests,
        "content": digests,
        "width": SIDE,
        "height": SIDE,
        "mode": "L",
        "format": "PNG",
        "mean": 100.0,
        "std": 20.0,
    }
    return pd.DataFrame(columns)


def imports(work: Path) -> None:
    """Import what the steps import, and look at nothing."""
    import great_expectations.expectations  # noqa: F401

    from transfer.data.splits import split  # noqa: F401


def divide_target(work: Path) -> None:
    """Divide a target."""
    from transfer.data.manifest import Manifest
    from transfer.data.splits import split
    from transfer.data.splits.split import SplitSettings

    manifest = Manifest.load(work / "target")
    frame = split.split(manifest, SplitSettings(), labels_per_class=None, merge_val=False)
    (work / "target_split").mkdir(exist_ok=True)
    split.save(work / "target_split", manifest, frame, [])


def divide_source(work: Path) -> None:
    """Divide a source, and leave out what equals an item that the target is judged on."""
    from transfer.data.manifest import Manifest
    from transfer.data.splits import split
    from transfer.data.splits.split import SplitSettings

    source, target = (Manifest.load(work / name) for name in ("source", "target"))
    frame = split.split(source, SplitSettings(), labels_per_class=None, merge_val=False)
    sides = split.load(work / "target_split", target)
    frame = split.leave_out(frame, source, target, sides, labelled=False)
    (work / "source_split").mkdir(exist_ok=True)
    split.save(work / "source_split", source, frame, [])


def alike(work: Path) -> None:
    """Look for near-duplicates in a target."""
    from transfer.data.manifest import Manifest
    from transfer.data.splits import duplicates, split
    from transfer.data.storage import tensor_store
    from transfer.modalities import lookup

    manifest = Manifest.load(work / "target")
    sides = split.load(work / "target_split", manifest)["split"]
    records, modality = tensor_store.on_disk(work / "target"), lookup.get("image")
    duplicates.near_pairs(records, manifest.items, sides, modality=modality, max_rms=0.02)


def validate(work: Path) -> None:
    """Put every expectation to both."""
    from tasks.data.expectation_suite import validate as run
    from transfer.data.quality.checks import ScannedDataset
    from transfer.data.quality.thresholds import of_modality

    source, target = (
        ScannedDataset.load(work / n, work / f"{n}_split") for n in ("source", "target")
    )
    out = work / "validated"
    out.mkdir(exist_ok=True)
    run(source, target, settings=of_modality("image")(), out=out)


def load(work: Path) -> None:
    """Load what is learned from and selected on, and read a batch."""
    import torch

    from transfer.data.items import labelled_items, validation_items
    from transfer.data.storage import item_ids, tensor_store

    tensor_store.IN_MEMORY = item_ids.IN_MEMORY = 0
    folders = work / "target", work / "target_split"
    items, held = labelled_items(*folders), validation_items(*folders)
    rows = torch.randperm(len(items))[:128]
    assert items.records[rows].shape[0] == len(items.labels[rows]) == 128 < len(held)


def train(work: Path) -> None:
    """Train a small network for some steps and look at the validation items once."""
    from transfer.data.items import labelled_items, normalisation, validation_items
    from transfer.data.storage import item_ids, tensor_store
    from transfer.methods.baselines.scratch import Scratch
    from transfer.modalities.image.augment import AugmentPolicy
    from transfer.modalities.image.spec import ImageSpec
    from transfer.models.network import BackboneSpec, build
    from transfer.training.loop import Watch, fit
    from transfer.training.recipe import Recipe, TrainingSettings

    tensor_store.IN_MEMORY = item_ids.IN_MEMORY = 0
    folders = work / "target", work / "target_split"
    items, held = labelled_items(*folders), validation_items(*folders)
    backbone_spec = BackboneSpec(name="resnet", options={"width": 4, "pool": True})
    spec = ImageSpec.model_validate(SPEC)
    network = build(backbone_spec, spec=spec, classes=CLASSES, seed=0)
    training = TrainingSettings(steps=30, batch_size=128)
    recipe = Recipe(training, AugmentPolicy(), normalisation(items, spec), CLASSES, spec=spec)
    prepared = Scratch().prepare(network, None, NAMES)
    fit(Scratch(), prepared, items, recipe, seed=0, watch=Watch(held, every=30, patience=5))


STEPS: dict[str, Callable[[Path], None]] = {
    "imports alone": imports,
    "split target": divide_target,
    "split source": divide_source,
    "near-duplicates": alike,
    "validate": validate,
    "load": load,
    "train": train,
}


def peak() -> int:
    """Largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(steps: Sequence[str], folders: Sequence[Path]) -> list[dict[str, float]]:
    """Run steps in a process of their own, on one folder after the other.

    Returns:
        For each folder the largest resident set up to then, in bytes, and the seconds.
    """
    root = str(Path(__file__).parents[1])  # also where PYTHONSAFEPATH is set
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--step", *steps, "--work", *map(str, folders)],
        check=True,
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(steps: Sequence[str], folders: Sequence[Path]) -> None:
    """Run steps here, and print what `measured` reads."""
    for folder in folders:
        began = time.perf_counter()
        for step in steps:
            STEPS[step](folder)
        print(json.dumps({"bytes": peak(), "seconds": time.perf_counter() - began}))


def slope(rows: list[dict[str, float]], sizes: list[int]) -> float:
    """Bytes a picture, over the imports alone."""
    return float(np.polyfit(sizes, [row["bytes"] for row in rows], 1)[0])


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    sizes = results["items"]
    lines = [
        f"{results['cores']} cores. Peak of the resident set in MB, and seconds, by the number "
        "of pictures, one half in a source and one half in a target.",
        "",
        f"| step | {' | '.join(f'{n:,}' for n in sizes)} | bytes a picture |",
        f"|---|{'---|' * (len(sizes) + 1)}",
    ]
    for step, rows in results["steps"].items():
        cells = [f"{row['bytes'] / 1e6:.0f} MB, {row['seconds']:.1f} s" for row in rows]
        lines.append(f"| {step} | {' | '.join(cells)} | {slope(rows, sizes):.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[200_000, 600_000, 2_000_000])
    parser.add_argument("--step", choices=STEPS, nargs="+")
    parser.add_argument("--work", type=Path, nargs="+", default=[None])
    arguments = parser.parse_args()
    if arguments.step:
        run(arguments.step, arguments.work)
        return
    results: dict[str, Any] = {"cores": os.cpu_count(), "items": arguments.items}
    results["steps"] = {step: [] for step in STEPS}
    for items in arguments.items:
        with tempfile.TemporaryDirectory(dir=arguments.work[0]) as scratch:
            for name in ("source", "target"):
                make(Path(scratch) / name, items // 2, name)
            for step in STEPS:
                results["steps"][step] += measured([step], [Path(scratch)])
                print(items, step, results["steps"][step][-1], flush=True)
    write("memory", results, table(results))


if __name__ == "__main__":
    main()
