"""Score a folder with the champion, and reuse the parts that an earlier run had finished."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from tasks.registry import versions
from tasks.runtime import progress
from tasks.runtime.step import step
from tasks.store import content_store
from tasks.tracking import files
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError
from transfer.data.readers.listing import Reject
from transfer.data.readers.unlabelled import KINDS, Unlabelled
from transfer.data.storage.parquet_parts import Parts, holds, tables
from transfer.deployment import batch_scoring as scoring
from transfer.deployment.batch_scoring import Effort, Part, Scorer
from transfer.modalities import lookup
from transfer.models import predictor


@dataclass(frozen=True)
class Scored:
    """The result of scoring a folder."""

    source: str
    out: str
    model: str
    version: int
    rows: int
    labels: dict[str, int]
    """How many items have each predicted label, the most frequent first."""
    errors: dict[str, int]
    """How many items could not be scored, for each reason."""
    reused: int
    """Rows that an earlier run had finished."""
    seconds: float
    """Wall time of reading, scoring and writing."""
    effort: Effort


@step("score", tags=["predict"])
def score(source: Path, out: Path, target: str, batch: int) -> Scored:
    """Score everything in a folder, manifest file or archive, and write one Parquet file.

    Finished parts are kept in a hidden folder beside the file until the file is written.

    Raises:
        CrosstrainError: the file cannot be written, or another process writes it.
        DataRefusedError: the source does not exist or holds no readable item.
        NothingToDoError: the target has no champion.
        SettingsError: the name of the file does not end in .parquet, or the file is in the folder.
    """
    _check(source, out, batch)
    scorer, identity = _champion(target, batch)
    return write(scorer, identity, source, out)


def write(
    scorer: Scorer, identity: str, source: Path, out: Path, part: int = scoring.PART
) -> Scored:
    """Score with any model; see `score`.

    Args:
        identity: stands for all that the predictions depend on; with another text no part is
            reused.
        part: items per part.
    """
    items = Unlabelled.open(source, scorer.model.card.limits, scorer.model.modality)
    cut = partial(scoring.parts, items, f"{identity} {items.stamp}", part)
    total, key = _survey(source, cut())
    began = time.perf_counter()
    with _locked_parts(out) as parts, progress.bar("score", total) as advance:
        run = _Run(scorer, parts, advance)
        if holds(out, key):
            run.take(tables(out))
        else:
            run.score(cut())
            if not run.labels:
                parts.clear()
                raise _nothing(source, run.errors)
            parts.publish(run.tables(), scorer.schema, out, _key(run.keys))
        parts.clear()
    return Scored(
        source=str(source),
        out=str(out),
        model=scorer.name,
        version=scorer.version,
        rows=sum(run.labels.values()) + sum(run.errors.values()),
        labels=dict(run.labels.most_common()),
        errors=dict(run.errors.most_common()),
        reused=run.reused,
        seconds=time.perf_counter() - began,
        effort=scorer.effort,
    )


def _check(source: Path, out: Path, batch: int) -> None:
    if batch < 1:
        raise SettingsError(f"a batch of {batch} items; expected 1 or more")
    if out.suffix.lower() != ".parquet" or out.is_dir():
        raise SettingsError(
            f"{out} is no name for the table; expected a name that ends in .parquet"
        )
    inside, outside = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if inside == outside or (source.is_dir() and inside.is_relative_to(outside)):
        raise SettingsError(f"{out} is in {source}, and would be scored too; write it elsewhere")


def _champion(target: str, batch: int) -> tuple[Scorer, str]:
    """The champion, and a digest of all that its predictions depend on."""
    champion = versions.champion_of(target)
    name = champion.name
    folder = files.model_folder(name, champion.version)
    model = predictor.load(folder)
    identity = content_store.key(
        "score",
        {"model": content_store.digest_of(folder)[0]},
        {"name": name, "version": champion.version, "batch": batch},
        ["transfer.deployment.batch_scoring", lookup.code(model.modality.name)],
    )
    return Scorer(model, name, champion.version, batch), identity


def _survey(source: Path, cut: Iterator[Part]) -> tuple[int, str]:
    """The number of items, and the key of the file with their predictions.

    Raises:
        DataRefusedError: no item is readable.
    """
    keys, counts = [], Counter[str]()
    for part in cut:
        keys.append(part.key)
        contents = [item.content for item in part.items]
        counts.update(c.reason if isinstance(c, Reject) else "" for c in contents)
    if not counts[""]:
        raise _nothing(source, counts)
    return counts.total(), _key(keys)


def _key(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _nothing(source: Path, errors: Counter[str]) -> DataRefusedError:
    reasons = ", ".join(f"{n} {reason}" for reason, n in errors.most_common() if reason)
    return DataRefusedError(
        f"{source} holds no readable item{f' ({reasons})' if reasons else ''}; expected {KINDS}"
    )


@contextmanager
def _locked_parts(out: Path) -> Iterator[Parts]:
    """The parts of a file, for the only process that may write it.

    Raises:
        CrosstrainError: another process holds the lock, or the system refuses to write.
    """
    parts = Parts(out.with_name(f".{out.name}.parts"))
    try:
        parts.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(parts.folder / "lock", blocking=False):
            yield parts
    except Timeout as error:
        raise CrosstrainError(f"another process is writing {out}; wait for it") from error
    except OSError as error:
        raise CrosstrainError(f"{out} cannot be written: {error}") from error


@dataclass
class _Run:
    scorer: Scorer
    parts: Parts
    advance: Callable[[int], None]
    keys: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    reused: int = 0

    def score(self, cut: Iterator[Part]) -> None:
        for part, table in self.scorer.score(self._missing(cut)):
            self.parts.keep(part.key, table)
            self._count(table)

    def take(self, finished: Iterable[pa.Table]) -> None:
        for table in finished:
            self.reused += table.num_rows
            self._count(table)

    def tables(self) -> Iterator[pa.Table]:
        for key in self.keys:
            table = self.parts.read(key)
            if table is None:
                raise CrosstrainError(
                    f"a finished part in {self.parts.folder} was damaged; run again"
                )
            yield table

    def _missing(self, cut: Iterator[Part]) -> Iterator[Part]:
        for part in cut:
            self.keys.append(part.key)
            table = self.parts.read(part.key)
            if table is None:
                yield part
            else:
                self.take([table])

    def _count(self, table: pa.Table) -> None:
        self.labels.update(_counts(table["label"]))
        self.errors.update(_counts(table["error"]))
        self.advance(table.num_rows)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    rows = column.drop_null().value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in rows}
