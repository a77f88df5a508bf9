"""Items that a model has not met: listed, read once and looked at, some at a time.

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
from transfer.deployment.monitoring.reference import Seen, joined, look
from transfer.modalities import lookup
from transfer.modalities.interface import Modality, Unreadable
from transfer.models.predictor import Card, Predictor

CHUNK = 64  # records held in memory at a time

Record = NDArray[Any]


@dataclass(frozen=True)
class Fresh:
    """New items as a model sees them."""

    ids: list[str]  # N
    seen: Seen
    labels: NDArray[np.int64]  # N: index into the model's classes, or -1 where it is not known
    strange: dict[str, int]
    """Items of each label that the model has no class for; their ``labels`` are -1."""
    unlabelled: NDArray[np.bool_]  # N: came without a label
    rejects: list[Reject]
    found: int
    """Files there are; more than items and rejects together where only some were drawn."""


@dataclass(frozen=True)
class NewItems:
    """Where the items of a dataset are, and how to get one."""

    dataset: Path
    listing: Listing
    record: Callable[[Entry], Record]
    """An entry's record as the model takes it in; raises `Unreadable`."""
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
        found = list_folder(dataset, modality)
        loose = [r.path for r in found.rejects if r.reason == "no_class_folder"]
        told = [check_suffix(name, modality) or Entry(name, dataset / name, "") for name in loose]
        kept = [r for r in found.rejects if r.reason != "no_class_folder"]
        return Listing(
            found.class_names,
            [*found.entries, *(one for one in told if isinstance(one, Entry))],
            [*kept, *(one for one in told if isinstance(one, Reject))],
        )
    if dataset.is_file() and dataset.suffix.lower() in {".csv", ".parquet"}:
        return list_table(dataset, modality, need_labels=False)
    raise no_dataset(dataset)


def _decoded(entry: Entry, card: Card) -> Record:
    modality = lookup.of(card.spec)
    sample = modality.decode(read(entry.path, card.limits), card.limits)
    return modality.record(sample, card.spec)


def observe(model: Predictor, source: NewItems, *, most: int, seed: int) -> Fresh:
    """Read items and let a model look at them; memory is bounded by ``most``.

    Args:
        model: decodes the items by its own card.
        source: where they are.
        most: files to read; of more, so many are drawn.
        seed: of the draw.

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
    rejects = [one for one in chosen if isinstance(one, Reject)]
    parts, kept = list[Seen](), list[Entry]()
    for entries, records in _read(source, chosen, rejects):
        parts.append(look(model, torch.from_numpy(records)))
        kept += entries
    names = [unicodedata.normalize("NFC", entry.label) for entry in kept]
    known = {name: i for i, name in enumerate(model.class_names)}
    return Fresh(
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
    """Readable items, some at a time; what cannot be read is added to the rejects."""
    waiting = (one for one in files if isinstance(one, Entry))
    while chunk := list(islice(waiting, CHUNK)):
        entries, records = [], []
        for entry in chunk:
            try:
                records.append(source.record(entry))
                entries.append(entry)
            except Unreadable as why:
                rejects.append(Reject(entry.id, why.reason, why.detail))
        if entries:
            yield entries, np.stack(records)


def _nothing(model: Predictor) -> Seen:
    layout = model.modality.layout(model.card.spec)
    one = look(model, torch.from_numpy(np.zeros((1, *layout.shape), layout.dtype)))
    return Seen(*(array[:0] for array in vars(one).values()))
