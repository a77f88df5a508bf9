"""Read a dataset once: bytes hashed, decoded, checked, fitted, or rejected with a reason.

Shapes: N items, C channels, H x W pixels.
"""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from transfer.data.manifest import COLUMNS, Manifest
from transfer.data.readers import npz
from transfer.data.readers.class_folders import list_folder
from transfer.data.readers.listing import Entry, Listing, Reject, check_classes, no_dataset, read
from transfer.data.readers.manifest_file import list_table
from transfer.data.storage.table import StoredItems, Writer
from transfer.modalities.image import decode
from transfer.modalities.image.spec import ImageLimits, ImageSpec, Unreadable

_GROUP = 2**14  # rows written at a time
_CHUNK = 64  # items held in memory at a time
_LARGE = 256 * 256  # mean pixels from which threads pay: below, the interpreter lock binds
_MANY = 10_000  # files from which processes pay; each takes a second to start
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class _Item:
    row: dict[str, Any]  # of the manifest
    pixels: bytes  # C x H x W


def scan(dataset: Path, out: Path, *, name: str, spec: ImageSpec, limits: ImageLimits) -> Manifest:
    """Read every item of a dataset and write what later steps need into an existing folder.

    Writes ``manifest.parquet``, ``manifest.json``, ``rejects.json``, ``scan.json`` and
    ``images.u8``: the fitted pixels (N, C, H, W), row i of which is row i of the manifest.

    Args:
        dataset: a folder of class folders, a .csv or .parquet manifest, or an .npz file.
        name: the dataset's name.

    Raises:
        DataRefusedError: the dataset does not exist, is damaged as a whole, or does not hold
            readable images of two or more classes, at least one each.
    """
    listing, items = _open(dataset, spec, limits)
    names, rejects, rows = listing.class_names, list(listing.rejects), []
    check_classes(dataset, names, Counter(e.label for e in listing.entries), rejects)
    kept: Counter[str] = Counter()
    with (
        (out / "images.u8").open("wb") as pixels,
        Writer(out / "manifest.parquet", COLUMNS) as table,
    ):
        for item in items:
            if isinstance(item, Reject):
                rejects.append(item)
                continue
            pixels.write(item.pixels)
            kept[names[item.row["label"]]] += 1
            rows.append(item.row)
            if len(rows) == _GROUP:
                table.write(pd.DataFrame(rows))
                rows.clear()
        if rows:
            table.write(pd.DataFrame(rows))
    check_classes(dataset, names, kept, rejects)
    manifest = Manifest(name, "image", names, StoredItems(out / "manifest.parquet"))
    _write(out, manifest, rejects, spec)
    return manifest


def survey(dataset: Path, limits: ImageLimits) -> tuple[pd.DataFrame, list[Reject]]:
    """Read every item of a dataset and write nothing, to compare it with another.

    Unlike `scan` it bears a dataset of one class or none.

    Returns:
        The columns of a manifest, in which ``label`` is a class name, and the rejects.

    Raises:
        DataRefusedError: the dataset does not exist or is damaged as a whole.
    """
    listing, items = _open(dataset, None, limits)
    done = list(items)
    rows = [item.row for item in done if isinstance(item, _Item)]
    rejects = [*listing.rejects, *(item for item in done if isinstance(item, Reject))]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    names = dict(enumerate(listing.class_names))
    return table.assign(label=table["label"].map(names).astype("str")), rejects


def _open(
    dataset: Path, spec: ImageSpec | None, limits: ImageLimits
) -> tuple[Listing, Iterator[_Item | Reject]]:
    """List a dataset, and what becomes of each entry, in order."""
    if not (dataset.is_file() and dataset.suffix.lower() == ".npz"):
        listing = _list_files(dataset)
        return listing, _read_files(_Files(_labels(listing), limits, spec), listing.entries)
    arrays = npz.load_arrays(dataset, limits)
    with dataset.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    pictures = zip(arrays.listing.entries, arrays.images, strict=True)
    labels = _labels(arrays.listing)
    return arrays.listing, (
        _item(entry, labels, partial(_from_array, sha256, image), spec) for entry, image in pictures
    )


def _labels(listing: Listing) -> dict[str, int]:
    return {name: i for i, name in enumerate(listing.class_names)}


def _list_files(dataset: Path) -> Listing:
    if dataset.is_dir():
        return list_folder(dataset)
    if dataset.is_file() and dataset.suffix.lower() in {".csv", ".parquet"}:
        return list_table(dataset)
    raise no_dataset(dataset)


def _from_file(path: Path, limits: ImageLimits) -> tuple[str, decode.Picture]:
    data = read(path, limits)
    return hashlib.sha256(data).hexdigest(), decode.decode(data, limits)


def _from_array(sha256: str, image: NDArray[np.uint8]) -> tuple[str, decode.Picture]:
    return sha256, decode.from_pixels(image)


@dataclass(frozen=True)
class _Files:
    """Reads image files; goes to other processes."""

    labels: Mapping[str, int]  # of the classes
    limits: ImageLimits
    spec: ImageSpec | None

    def __call__(self, entry: Entry) -> _Item | Reject:
        return _item(entry, self.labels, partial(_from_file, entry.path, self.limits), self.spec)

    def several(self, entries: Sequence[Entry]) -> list[_Item | Reject]:
        return [self(entry) for entry in entries]


def _item(
    entry: Entry,
    labels: Mapping[str, int],
    load: Callable[[], tuple[str, decode.Picture]],
    spec: ImageSpec | None,
) -> _Item | Reject:
    try:
        sha256, picture = load()
    except Unreadable as why:
        return Reject(entry.id, why.reason, why.detail)
    row = _row(entry, labels[entry.label], sha256, picture)
    return _Item(row, b"" if spec is None else decode.to_tensor(picture, spec).tobytes())


def _read_files(work: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    """Read files in order. Small pictures keep the interpreter, so that only processes gain."""
    if len(entries) < _MANY or _CORES == 1:
        return _on_threads(work, entries)
    return _in_processes(work, entries)


def _on_threads(work: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    large = False
    with ThreadPoolExecutor(min(4, _CORES)) as pool:
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            done = list(pool.map(work, chunk) if large else map(work, chunk))
            yield from done
            sizes = [d.row["width"] * d.row["height"] for d in done if isinstance(d, _Item)]
            large = sum(sizes) >= _LARGE * max(1, len(sizes))


def _in_processes(work: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    """Read in processes that are new (a forked one can hang in a program that has threads)."""
    waiting: deque[tuple[int, Future[list[_Item | Reject]]]] = deque()
    starts, read_until = iter(range(0, len(entries), _CHUNK)), 0
    try:
        with ProcessPoolExecutor(_CORES, mp_context=get_context("spawn")) as pool:
            while True:
                for start in islice(starts, 2 * _CORES - len(waiting)):
                    part = entries[start : start + _CHUNK]
                    waiting.append((start, pool.submit(work.several, part)))
                if not waiting:
                    return
                start, done = waiting.popleft()
                yield from done.result()
                read_until = start + _CHUNK
    except BrokenProcessPool:  # a program without a main guard, or out of memory: go on here
        yield from _on_threads(work, entries[read_until:])


def _row(entry: Entry, label: int, sha256: str, picture: decode.Picture) -> dict[str, Any]:
    mean, std = _light(picture.image)
    return {
        "id": entry.id,
        "label": label,
        "group": entry.group,
        "given_split": entry.split,
        "sha256": sha256,
        "pixels": _pixel_hash(picture.image),
        "width": picture.image.width,
        "height": picture.image.height,
        "mode": picture.mode,
        "format": picture.format,
        "mean": mean,
        "std": std,
    }


def _pixel_hash(image: Image.Image) -> str:
    content = f"{image.width}x{image.height}".encode() + image.convert("RGB").tobytes()
    return hashlib.sha256(content).hexdigest()


def _light(image: Image.Image) -> tuple[float, float]:
    counts = np.array(image.convert("L").histogram(), dtype=np.float64)
    levels, n = np.arange(256), counts.sum()
    mean = float(levels @ counts / n)
    return mean, float(np.sqrt((levels - mean) ** 2 @ counts / n))


def _write(out: Path, manifest: Manifest, rejects: list[Reject], spec: ImageSpec) -> None:
    manifest.save_head(out)
    listed = [asdict(r) for r in sorted(rejects, key=lambda r: (r.path, r.reason, r.detail))]
    (out / "rejects.json").write_text(_json(listed), encoding="utf-8")
    shape = [len(manifest), spec.channels, spec.size, spec.size]
    facts = {"spec": spec.model_dump(), "items": shape[0], "rejects": len(listed), "shape": shape}
    (out / "scan.json").write_text(_json(facts), encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1)


def left_out(dataset: Path) -> list[str]:
    """What a listing alone rejects, and why: an entry may be left out of a dataset's fingerprint.

    Raises:
        DataRefusedError: there is no dataset, or it cannot be listed.
    """
    if dataset.is_file() and dataset.suffix.lower() == ".npz":
        return []
    return sorted(f"{r.path}: {r.reason}" for r in _list_files(dataset).rejects)


def has_colour(dataset: Path) -> bool:
    """Say from headers alone whether any image is stored in colour, palettes included.

    Raises:
        DataRefusedError: there is no dataset, or it cannot be listed.
    """
    if dataset.is_file() and dataset.suffix.lower() == ".npz":
        return npz.stored_in_colour(dataset)
    return any(decode.stored_in_colour(entry.path) for entry in _list_files(dataset).entries)
