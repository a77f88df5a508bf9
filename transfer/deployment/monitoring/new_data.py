"""New items: listed, read once and given to a model, some at a time.

Shapes: N items, K classes.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.core.errors import NothingToDoError
from transfer.data.readers import npz
from transfer.data.readers.class_folders import list_folder
from transfer.data.readers.listing import Entry, Listing, Reject, check_suffix, no_dataset, read
from transfer.data.readers.manifest_file import list_table
from transfer.deployment.monitoring.reference import Outputs, joined, look
from transfer.modalities import lookup
from transfer.modalities.interface import Modality, Unreadable
from transfer.models.predictor import Card, Predictor

CHUNK = 64  # records in memory at a time

Record = NDArray[Any]


@dataclass(frozen=True)
class Observed:
    """New items, with a model's outputs for them."""

    ids: list[str]  # N
    outputs: Outputs
    labels: NDArray[np.int64]  # N: index into the model's classes, or -1 without a known class
    strange: dict[str, int]
    """Items of each label that the model has no class for; their ``labels`` are -1."""
    unlabelled: NDArray[np.bool_]  # N: has no label
    rejects: list[Reject]
    found: int
    """Number of files; more than items and rejects together if only a sample was read."""


@dataclass(frozen=True)
class NewItems:
    """The items of a dataset, and the function that reads one."""

    dataset: Path
    listing: Listing
    record: Callable[[Entry], Record]
    """An entry's record as the model reads it; raises `Unreadable`."""
    modality: Modality


def new_items(dataset: Path, card: Card) -> NewItems:
    """List a dataset whose items need not have a label.

    A folder: files in it have no label, those in a folder in it have that folder's name as their
    label. A .csv or .parquet manifest, where a label may be empty. An .npz file.

    Raises:
        DataRefusedError: there is no dataset, or it is damaged as a whole.
    """
    modality = lookup.of(card.spec)
    if not (dataset.is_file() and dataset.suffix.lower() == ".npz"):
        listing = _list_files(dataset, modality)
        return NewItems(dataset, listing, lambda entry: _decoded(entry, card), modality)
    arrays = npz.load_arrays(dataset, card.limits, modality)
    row = {entry.id: i for i, entry in enumerate(arrays.listing.entries)}

    def record(entry: Entry) -> Record:
        return modality.record(modality.from_array(arrays.rows[row[entry.id]]), card.spec)

    return NewItems(dataset, arrays.listing, record, modality)


def _list_files(dataset: Path, modality: Modality) -> Listing:
    if dataset.is_dir():
        listing = list_folder(dataset, modality)
        loose = [r.path for r in listing.rejects if r.reason == "no_class_folder"]
        checked = [
            check_suffix(name, modality) or Entry(name, dataset / name, "") for name in loose
        ]
        kept = [r for r in listing.rejects if r.reason != "no_class_folder"]
        return Listing(
            listing.class_names,
            [*listing.entries, *(item for item in checked if isinstance(item, Entry))],
            [*kept, *(item for item in checked if isinstance(item, Reject))],
        )
    if dataset.is_file() and dataset.suffix.lower() in {".csv", ".parquet"}:
        return list_table(dataset, modality, need_labels=False)
    raise no_dataset(dataset)


def _decoded(entry: Entry, card: Card) -> Record:
    modality = lookup.of(card.spec)
    sample = modality.decode(read(entry.path, card.limits), card.limits)
    return modality.record(sample, card.spec)


def observe(model: Predictor, source: NewItems, *, most: int, seed: int) -> Observed:
    """Read items and compute a model's outputs; ``most`` bounds the memory.

    Args:
        model: decodes the items by its own card.
        source: the listed items.
        most: files to read; of more files, a sample of this size.
        seed: of the sample.

    Raises:
        NothingToDoError: there is no file.
    """
    listing = source.listing
    unfit = [reject for reject in listing.rejects if reject.reason != "hidden"]
    files: list[Entry | Reject] = [*listing.entries, *unfit]
    if not files:
        raise NothingToDoError(
            f"found no {source.modality.nouns.one} in {source.dataset}; put new ones there, or "
            "name another place"
        )
    drawn = np.random.default_rng(seed).permutation(len(files))[:most]
    chosen = [files[i] for i in np.sort(drawn)]
    rejects = [file for file in chosen if isinstance(file, Reject)]
    parts, kept = list[Outputs](), list[Entry]()
    for entries, records in _read(source, chosen, rejects):
        parts.append(look(model, torch.from_numpy(records)))
        kept += entries
    names = [unicodedata.normalize("NFC", entry.label) for entry in kept]
    known = {name: i for i, name in enumerate(model.class_names)}
    return Observed(
        [entry.id for entry in kept],
        joined(parts) if parts else _nothing(model),
        np.array([known.get(name, -1) for name in names], np.int64),
        dict(Counter(name for name in names if name and name not in known)),
        np.array([not name for name in names], bool),
        rejects,
        len(files),
    )


def _read(
    source: NewItems, files: Sequence[Entry | Reject], rejects: list[Reject]
) -> Iterator[tuple[list[Entry], Record]]:
    """Readable items, some at a time; unreadable files are added to the rejects."""
    waiting = (file for file in files if isinstance(file, Entry))
    while chunk := list(islice(waiting, CHUNK)):
        entries, records = [], []
        for entry in chunk:
            try:
                records.append(source.record(entry))
                entries.append(entry)
            except Unreadable as error:
                rejects.append(Reject(entry.id, error.reason, error.detail))
        if entries:
            yield entries, np.stack(records)


def _nothing(model: Predictor) -> Outputs:
    layout = model.modality.layout(model.card.spec)
    outputs = look(model, torch.from_numpy(np.zeros((1, *layout.shape), layout.dtype)))
    return Outputs(*(array[:0] for array in vars(outputs).values()))
