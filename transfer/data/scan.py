"""Read a dataset once: hash, decode, check and fit every item, or reject it with a reason.

Shapes: N items.
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

import pandas as pd
from numpy.typing import NDArray

from transfer.data.manifest import Manifest, columns
from transfer.data.readers import npz
from transfer.data.readers.class_folders import list_folder
from transfer.data.readers.listing import Entry, Listing, Reject, check_classes, no_dataset, read
from transfer.data.readers.manifest_file import list_table
from transfer.data.storage.table import StoredItems, Writer
from transfer.data.storage.tensor_store import FACTS, RECORDS
from transfer.modalities import lookup
from transfer.modalities.interface import (
    Contents,
    InputLimits,
    InputSpec,
    Modality,
    Unreadable,
)

_GROUP = 2**14  # rows written at a time
_CHUNK = 64  # items held in memory at a time
_LARGE = 256 * 256  # mean number of decoded values from which threads help; below, the GIL limits
_MANY = 10_000  # files from which processes help; each takes a second to start
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class _Item:
    row: dict[str, Any]  # of the manifest
    record: bytes
    effort: int  # see `Modality.effort`


def scan(dataset: Path, out: Path, *, name: str, spec: InputSpec, limits: InputLimits) -> Manifest:
    """Read every item of a dataset and write what later steps need into an existing folder.

    Writes ``manifest.parquet``, ``manifest.json``, ``rejects.json``, ``scan.json`` and
    ``records.bin``: one record per item, of the shape and type in ``scan.json``; record i belongs
    to row i of the manifest.

    Args:
        dataset: a folder of class folders, a .csv or .parquet manifest, or an .npz file.
        name: the dataset's name.

    Raises:
        DataRefusedError: the dataset does not exist, is damaged as a whole, or does not hold
            readable items of two or more classes.
    """
    modality = lookup.of(spec)
    listing, items = _open(dataset, modality, spec, limits)
    names, rejects, rows = listing.class_names, list(listing.rejects), []
    check_classes(dataset, names, Counter(e.label for e in listing.entries), rejects, modality)
    kept: Counter[str] = Counter()
    with (
        (out / RECORDS).open("wb") as records,
        Writer(out / "manifest.parquet", columns(spec.modality)) as table,
    ):
        for item in items:
            if isinstance(item, Reject):
                rejects.append(item)
                continue
            records.write(item.record)
            kept[names[item.row["label"]]] += 1
            rows.append(item.row)
            if len(rows) == _GROUP:
                table.write(pd.DataFrame(rows))
                rows.clear()
        if rows:
            table.write(pd.DataFrame(rows))
    check_classes(dataset, names, kept, rejects, modality)
    manifest = Manifest(name, spec.modality, names, StoredItems(out / "manifest.parquet"))
    _write(out, manifest, rejects, spec)
    return manifest


def survey(
    dataset: Path, limits: InputLimits, modality: Modality
) -> tuple[pd.DataFrame, list[Reject]]:
    """Read every item of a dataset and write nothing, to compare it with another dataset.

    Unlike `scan` it accepts a dataset of one class or of none.

    Returns:
        The columns of a manifest, in which ``label`` is a class name, and the rejects.

    Raises:
        DataRefusedError: the dataset does not exist or is damaged as a whole.
    """
    listing, items = _open(dataset, modality, None, limits)
    results = list(items)
    rows = [item.row for item in results if isinstance(item, _Item)]
    rejects = [*listing.rejects, *(item for item in results if isinstance(item, Reject))]
    kinds = columns(modality.name)
    table = pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
    names = dict(enumerate(listing.class_names))
    return table.assign(label=table["label"].map(names).astype("str")), rejects


def _open(
    dataset: Path, modality: Modality, spec: InputSpec | None, limits: InputLimits
) -> tuple[Listing, Iterator[_Item | Reject]]:
    """List a dataset and read its entries: the listing, and the item or reject of each entry."""
    if not (dataset.is_file() and dataset.suffix.lower() == ".npz"):
        listing = _list_files(dataset, modality)
        read_item = _Files(_labels(listing), limits, modality.name, spec)
        return listing, _read_files(read_item, listing.entries)
    arrays = npz.load_arrays(dataset, limits, modality)
    with dataset.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    pairs = zip(arrays.listing.entries, arrays.rows, strict=True)
    labels = _labels(arrays.listing)
    return arrays.listing, (
        _item(entry, labels, partial(_from_array, sha256, row, modality), modality, spec)
        for entry, row in pairs
    )


def _labels(listing: Listing) -> dict[str, int]:
    return {name: i for i, name in enumerate(listing.class_names)}


def _list_files(dataset: Path, modality: Modality) -> Listing:
    if dataset.is_dir():
        return list_folder(dataset, modality)
    if dataset.is_file() and dataset.suffix.lower() in {".csv", ".parquet"}:
        return list_table(dataset, modality)
    raise no_dataset(dataset)


def _from_file(path: Path, limits: InputLimits, modality: Modality) -> tuple[str, Any]:
    data = read(path, limits)
    return hashlib.sha256(data).hexdigest(), modality.decode(data, limits)


def _from_array(sha256: str, row: NDArray[Any], modality: Modality) -> tuple[str, Any]:
    return sha256, modality.from_array(row)


@dataclass(frozen=True)
class _Files:
    """Reads the files of items; can be sent to other processes."""

    labels: Mapping[str, int]  # of the classes
    limits: InputLimits
    modality: str
    spec: InputSpec | None

    def __call__(self, entry: Entry) -> _Item | Reject:
        modality = lookup.get(self.modality)
        load = partial(_from_file, entry.path, self.limits, modality)
        return _item(entry, self.labels, load, modality, self.spec)

    def read_all(self, entries: Sequence[Entry]) -> list[_Item | Reject]:
        return [self(entry) for entry in entries]


def _item(
    entry: Entry,
    labels: Mapping[str, int],
    load: Callable[[], tuple[str, Any]],
    modality: Modality,
    spec: InputSpec | None,
) -> _Item | Reject:
    try:
        sha256, sample = load()
        record = b"" if spec is None else modality.record(sample, spec).tobytes()
    except Unreadable as error:
        return Reject(entry.id, error.reason, error.detail)
    given = {"label": labels[entry.label], "group": entry.group, "given_split": entry.split}
    row = {"id": entry.id, **given, "sha256": sha256, **modality.describe(sample)}
    return _Item(row, record, modality.effort(sample))


def _read_files(read_item: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    """Read files in order. Small items hold the GIL, so that only processes make this faster."""
    if len(entries) < _MANY or _CORES == 1:
        return _on_threads(read_item, entries)
    return _in_processes(read_item, entries)


def _on_threads(read_item: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    large = False
    with ThreadPoolExecutor(min(4, _CORES)) as pool:
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            results = list(pool.map(read_item, chunk) if large else map(read_item, chunk))
            yield from results
            sizes = [item.effort for item in results if isinstance(item, _Item)]
            large = sum(sizes) >= _LARGE * max(1, len(sizes))


def _in_processes(read_item: _Files, entries: Sequence[Entry]) -> Iterator[_Item | Reject]:
    """Read in spawned processes (a forked process can hang in a program that has threads)."""
    waiting: deque[tuple[int, Future[list[_Item | Reject]]]] = deque()
    starts, read_until = iter(range(0, len(entries), _CHUNK)), 0
    try:
        with ProcessPoolExecutor(_CORES, mp_context=get_context("spawn")) as pool:
            while True:
                for start in islice(starts, 2 * _CORES - len(waiting)):
                    part = entries[start : start + _CHUNK]
                    waiting.append((start, pool.submit(read_item.read_all, part)))
                if not waiting:
                    return
                start, future = waiting.popleft()
                yield from future.result()
                read_until = start + _CHUNK
    except BrokenProcessPool:  # a program without a main guard, or out of memory: continue here
        yield from _on_threads(read_item, entries[read_until:])


def _write(out: Path, manifest: Manifest, rejects: list[Reject], spec: InputSpec) -> None:
    manifest.save_head(out)
    listed = [asdict(r) for r in sorted(rejects, key=lambda r: (r.path, r.reason, r.detail))]
    (out / "rejects.json").write_text(_json(listed), encoding="utf-8")
    layout = lookup.of(spec).layout(spec)
    facts = {
        "spec": spec.model_dump(),
        "items": len(manifest),
        "rejects": len(listed),
        "shape": [len(manifest), *layout.shape],
        "dtype": layout.dtype,
    }
    (out / FACTS).write_text(_json(facts), encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1)


def left_out(dataset: Path, modality: Modality) -> list[str]:
    """What a listing rejects without reading items, and why: for a dataset's fingerprint.

    Raises:
        DataRefusedError: there is no dataset, or it cannot be listed.
    """
    if dataset.is_file() and dataset.suffix.lower() == ".npz":
        return []
    return sorted(f"{r.path}: {r.reason}" for r in _list_files(dataset, modality).rejects)


def contents(dataset: Path, modality: Modality) -> Contents:
    """What a modality may read to specify its records: files, or an array's header.

    Raises:
        DataRefusedError: there is no dataset, or it cannot be listed; raised when ``files`` is
            called.
    """
    if dataset.is_file() and dataset.suffix.lower() == ".npz":
        header = npz.header(dataset, modality.array_key)
        return Contents(lambda: (), header)
    return Contents(lambda: (entry.path for entry in _list_files(dataset, modality).entries))
