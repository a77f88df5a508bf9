"""Score a folder with the champion, and take up again what an earlier run had finished."""

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
    """What became of a folder."""

    source: str
    out: str
    model: str
    version: int
    rows: int
    labels: dict[str, int]
    """How many items were given each label, most first."""
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

    What is finished lies in a hidden folder beside the file until that is written.

    Raises:
        CrosstrainError: the file cannot be written, or another process writes it.
        DataRefusedError: the source does not exist or holds no readable item.
        NothingToDoError: the target has no champion.
        SettingsError: the file is no .parquet file, or lies in the folder.
    """
    _check(source, out, batch)
    scorer, what = _champion(target, batch)
    return write(scorer, what, source, out)


def write(scorer: Scorer, what: str, source: Path, out: Path, part: int = scoring.PART) -> Scored:
    """Score with any model; see `score`.

    Args:
        what: stands for all that its answers depend on; another text takes up nothing again.
        part: items a part.
    """
    items = Unlabelled.open(source, scorer.model.card.limits, scorer.model.modality)
    cut = partial(scoring.parts, items, f"{what} {items.stamp}", part)
    total, key = _survey(source, cut())
    began = time.perf_counter()
    with _alone(out) as parts, progress.bar("score", total) as advance:
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
            f"{out} is no name for the table; expected a file that ends in .parquet"
        )
    inside, outside = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if inside == outside or (source.is_dir() and inside.is_relative_to(outside)):
        raise SettingsError(f"{out} lies in {source}, and would be scored too; write it elsewhere")


def _champion(target: str, batch: int) -> tuple[Scorer, str]:
    """The champion, and a digest of all that its answers depend on."""
    found = versions.champion_of(target)
    name = found.name
    folder = files.model_folder(name, found.version)
    model = predictor.load(folder)
    what = content_store.key(
        "score",
        {"model": content_store.digest_of(folder)[0]},
        {"name": name, "version": found.version, "batch": batch},
        ["transfer.deployment.batch_scoring", lookup.code(model.modality.name)],
    )
    return Scorer(model, name, found.version, batch), what


def _survey(source: Path, cut: Iterator[Part]) -> tuple[int, str]:
    """How many items there are, and the key of the file that they become.

    Raises:
        DataRefusedError: there is no item among them.
    """
    keys, counts = [], Counter[str]()
    for part in cut:
        keys.append(part.key)
        contents = [item.content for item in part.items]
        counts.update(one.reason if isinstance(one, Reject) else "" for one in contents)
    if not counts[""]:
        raise _nothing(source, counts)
    return counts.total(), _key(keys)


def _key(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _nothing(source: Path, errors: Counter[str]) -> DataRefusedError:
    told = ", ".join(f"{n} {reason}" for reason, n in errors.most_common() if reason)
    return DataRefusedError(
        f"{source} holds no readable item{f' ({told})' if told else ''}; expected {KINDS}"
    )


@contextmanager
def _alone(out: Path) -> Iterator[Parts]:
    """The parts of a file, for the one process that writes it.

    Raises:
        CrosstrainError: another process has them, or the system refuses to write.
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
    found = column.drop_null().value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in found}
