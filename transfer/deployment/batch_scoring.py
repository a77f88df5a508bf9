"""Score any number of items in bounded memory: part by part, decoding ahead of the network.

A part is a fixed number of consecutive items. Its key is a digest of their names, sizes and times
and of the scoring model, so that the result of an unchanged part can be reused.
Shapes: N items of a batch, M of them decodable, K classes.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transfer.data.readers.listing import Reject
from transfer.data.readers.unlabelled import Item
from transfer.modalities import lookup
from transfer.modalities.interface import Unreadable
from transfer.models.predictor import Card, Predictor

PART = 2048
"""Items of a part."""
AHEAD = 2
"""Batches that are decoded ahead while the network computes another."""
CLASS = "p:"
"""Prefix of the names of the classes' columns."""


@dataclass(frozen=True)
class Part:
    """Consecutive items, and the digest that names them."""

    key: str
    items: Sequence[Item]


@dataclass(frozen=True)
class _Batch:
    part: Part
    items: Sequence[Item]
    last: bool  # of its part


@dataclass(frozen=True)
class _Decoded:
    batch: _Batch
    fitted: list[NDArray[Any] | Reject]  # for each item its record or the reason
    seconds: float


@dataclass
class Effort:
    """Where the time of a scoring is spent, seconds."""

    decoding: float = 0.0
    """Processor time of the threads that read and decode, in parallel to the network."""
    waiting: float = 0.0
    """Wall time in which the network waited for them."""
    network: float = 0.0
    """Wall time of the network."""


@dataclass(frozen=True)
class Scorer:
    """A model under its registered name."""

    model: Predictor
    name: str
    version: int
    batch: int
    """Items that pass the network at once."""
    effort: Effort = field(default_factory=Effort)

    @property
    def schema(self) -> pa.Schema:
        """Columns: path, label, probability, one for each class, error, detail, model, version."""
        head = [("path", pa.string()), ("label", pa.string()), ("probability", pa.float32())]
        classes = [(CLASS + name, pa.float32()) for name in self.model.class_names]
        faults = [("error", pa.string()), ("detail", pa.string())]
        return pa.schema(
            [*head, *classes, *faults, ("model", pa.string()), ("version", pa.int32())]
        )

    def score(self, parts: Iterable[Part]) -> Iterator[tuple[Part, pa.Table]]:
        """The table of every part: a row for each of its items, in their order."""
        tables: list[pa.Table] = []
        for decoded in self._ahead(_batches(parts, self.batch)):
            tables.append(self._table(decoded))
            if decoded.batch.last:
                yield decoded.batch.part, pa.concat_tables(tables)
                tables = []

    def _ahead(self, batches: Iterable[_Batch]) -> Iterator[_Decoded]:
        """Decode batches in threads, up to `AHEAD` of them in advance."""
        begun: deque[Future[_Decoded]] = deque()
        pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="decode")
        try:
            for batch in batches:
                begun.append(pool.submit(_decode, batch, self.model.card))
                if len(begun) > AHEAD:
                    yield self._wait(begun.popleft())
            while begun:
                yield self._wait(begun.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _wait(self, future: Future[_Decoded]) -> _Decoded:
        began = time.perf_counter()
        decoded = future.result()
        self.effort.waiting += time.perf_counter() - began
        self.effort.decoding += decoded.seconds
        return decoded

    def _table(self, decoded: _Decoded) -> pa.Table:
        items, rejects = decoded.batch.items, [_reject(fitted) for fitted in decoded.fitted]
        readable = np.array([reject is None for reject in rejects])
        records = [fitted for fitted in decoded.fitted if not isinstance(fitted, Reject)]
        probabilities = self._predict(records)
        labels = np.array(self.model.class_names, dtype=object)[probabilities.argmax(1)]
        columns = [
            pa.array([item.id for item in items], pa.string()),
            _spread(labels, readable, pa.string()),
            _spread(probabilities.max(1), readable, pa.float32()),
            *(_spread(column, readable, pa.float32()) for column in probabilities.T),
            pa.array([reject and reject.reason for reject in rejects], pa.string()),
            pa.array([reject and reject.detail for reject in rejects], pa.string()),
            pa.repeat(pa.scalar(self.name), len(items)),
            pa.repeat(pa.scalar(self.version, pa.int32()), len(items)),
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _predict(self, records: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Probabilities (M, K)."""
        if not records:
            return np.empty((0, len(self.model.class_names)), np.float32)
        began = time.perf_counter()
        probabilities = self.model.predict_records(np.stack(records))
        self.effort.network += time.perf_counter() - began
        return probabilities


def parts(items: Iterable[Item], scorer: str, size: int = PART) -> Iterator[Part]:
    """Divide items into parts of the same size; the last may be shorter.

    Args:
        items: in an order that does not change.
        scorer: a text that identifies the scoring model; another text gives other keys.
        size: items in a part.
    """
    rest = iter(items)
    while some := list(islice(rest, size)):
        digest = hashlib.sha256(scorer.encode())
        for item in some:
            digest.update(f"\0\0{item.stamp()}".encode())
        yield Part(digest.hexdigest(), some)


def _batches(cut: Iterable[Part], size: int) -> Iterator[_Batch]:
    for part in cut:
        for start in range(0, len(part.items), size):
            end = start + size
            yield _Batch(part, part.items[start:end], end >= len(part.items))


def _decode(batch: _Batch, card: Card) -> _Decoded:
    began = time.thread_time()
    fitted = [_fit(item, card) for item in batch.items]
    return _Decoded(batch, fitted, time.thread_time() - began)


def _fit(item: Item, card: Card) -> NDArray[Any] | Reject:
    if isinstance(item.content, Reject):
        return item.content
    try:
        modality, content = lookup.of(card.spec), item.load(card.limits)
        if isinstance(content, bytes):
            return modality.record(modality.decode(content, card.limits), card.spec)
        return modality.record(modality.from_array(content), card.spec)
    except Unreadable as error:
        return Reject(item.id, error.reason, error.detail)


def _reject(fitted: NDArray[Any] | Reject) -> Reject | None:
    return fitted if isinstance(fitted, Reject) else None


def _spread(values: NDArray[Any], readable: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """Values (M) at the M readable of N rows; the others are null."""
    full = np.zeros(len(readable), values.dtype)
    full[readable] = values
    return pa.array(full, kind, mask=~readable)
