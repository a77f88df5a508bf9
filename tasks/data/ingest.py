"""Take new data into a dataset: whole or not at all, one ingest at a time.

Until the journal is written nothing of the dataset has changed, and an ingest that ends leaves only
a folder that the next one clears. From then on every file that is to come lies beside the data, and
each step sets a state: a killed ingest is carried through by doing all of it again.
"""

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from tasks.runtime import paths
from tasks.runtime.step import log, step
from tasks.store import content_store
from tasks.versioning import data_dvc as records
from tasks.versioning import dataset_versions, git, ingest_journal
from tasks.versioning.dvc_md5 import of_bytes, of_files
from transfer.core.atomic_files import fsync, settle, write_atomic
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError
from transfer.data import scan
from transfer.data.ingest import archive, compare
from transfer.data.ingest import plan as extend
from transfer.data.ingest.changes import Changes, Rejected
from transfer.data.ingest.compare import Findings, Item
from transfer.data.ingest.plan import Plan
from transfer.data.readers.listing import Reject
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.settings.project import DatasetSettings, Settings

REPORT = paths.REPORTS / "ingest.json"
MANY = 1000  # more folders than a delivery can have above a file


@dataclass(frozen=True)
class Wishes:
    """What is asked of an ingest besides adding what is new."""

    relabel: bool = False
    new_classes: bool = False
    replace: bool = False
    commit: bool = False
    push: bool = False


@dataclass(frozen=True)
class Delivery:
    """A delivery, unpacked."""

    name: str
    folder: Path
    rejects: list[Reject]


@contextmanager
def alone() -> Iterator[None]:
    """Be the one process that changes the data; others wait."""
    paths.DATA.mkdir(exist_ok=True)
    lock = FileLock(paths.DATA / ingest_journal.LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another ingest is under way; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        if not interrupted():
            ingest_journal.finish(paths.DATA)
        lock.release()


def interrupted() -> bool:
    """Whether an ingest was begun and is not finished; hold the lock to ask."""
    return ingest_journal.interrupted(paths.DATA) is not None


@step("prepare", tags=["data"])
def prepare(dataset: str, wishes: Wishes) -> Path:
    """Check all that can be checked before a delivery is read, and preserve the data as it is.

    Returns:
        The dataset: a folder, or an .npz file; it need not exist.

    Raises:
        SettingsError: the name can be no dataset's, the project is no DVC repository, or a commit
            or a push was asked for and cannot be made.
        DataRefusedError: the data differs from what data.dvc records.
    """
    place = place_of(dataset)
    dataset_versions.check_repository(paths.DATA_DVC)
    if wishes.commit:
        git.check(paths.DATA_DVC)
    if wishes.push:
        dataset_versions.check_remote(paths.DATA_DVC)
    ingest_journal.finish(paths.DATA)  # what a killed one left before it had a journal
    dataset_versions.verify_all(paths.DATA_DVC)
    dataset_versions.preserve(paths.DATA_DVC)
    return place


def place_of(dataset: str) -> Path:
    """Where a dataset of this name lies, or would lie.

    Raises:
        SettingsError: a dataset cannot have this name.
    """
    try:
        DatasetSettings(path=Path(dataset))
        named = Path(dataset).name == dataset and not dataset.startswith(".")
    except ValueError:
        named = False
    if not named:
        raise SettingsError(
            f"--dataset is {dataset!r}; expected the name of a folder or .npz file in "
            f"{paths.DATA}, of letters, digits, '_', '-', '.' and spaces"
        )
    place, arrays = paths.DATA / dataset, paths.DATA / f"{dataset}.npz"
    return arrays if arrays.exists() and not place.exists() else place


@step("receive", tags=["data"])
def receive(source: Path, settings: Settings) -> Delivery:
    """Unpack or copy a delivery beside the data."""
    folder = ingest_journal.work(paths.DATA) / "delivery"
    folder.mkdir(parents=True)
    return Delivery(source.name, folder, archive.receive(source, folder, settings.ingest.limits))


@step("compare", tags=["data"])
def plan(delivery: Delivery, dataset: Path, wishes: Wishes, settings: Settings) -> Changes:
    """Compare a delivery with the dataset, quarantine what cannot be used, and write the journal,
    or no journal when there is nothing to change.

    Raises:
        DataRefusedError: more of it cannot be used than `ingest.max_reject_share`, or it does not
            fit the dataset.
    """
    existing = _existing(dataset, settings)
    classes = sorted({item.label for item in existing})
    root = extend.delivered(delivery.folder, classes)
    known = None if wishes.new_classes or not existing else classes
    good, rejects = _sift(root, known, delivery, settings)
    found = compare.compare(existing, good, relabel=wishes.relabel, replace=wishes.replace)
    numbers = compare.by_class(existing, good, found)
    files = dataset_versions.fingerprint_files(root if root.is_dir() else root.parent)
    before = dataset_versions.fingerprint(dataset) if dataset.exists() else ""
    changes = Changes(
        dataset=dataset.stem if dataset.suffix == ".npz" else dataset.name,
        delivery=delivery.name,
        digest=of_files(files).removesuffix(".dir"),
        before=before,
        after=before,
        taken=False,
        refused=_refusal(good, rejects, delivery, settings),
        classes=numbers,
        added=[],
        removed=[],
        relabelled=[],
        duplicates=found.duplicates,
        conflicts=found.conflicts,
        rejects=[Rejected(**asdict(reject)) for reject in rejects],
        concerns=compare.concerns(numbers, settings.validate_),
        quarantine="",
    )
    changes = changes.model_copy(update={"quarantine": _quarantine(changes, root)})
    if changes.refused or not found.changes:
        _report(changes)
        if changes.refused:
            raise DataRefusedError(changes.refused)
        return changes
    return _begin(root, dataset, existing, found, changes, wishes, lookup.of(settings.input))


def _existing(dataset: Path, settings: Settings) -> list[Item]:
    """The dataset's items, decoded once for each version of it."""
    if not dataset.exists() or (dataset.is_dir() and not any(dataset.iterdir())):
        return []
    read_by, limits = extend.kind(dataset), settings.input.limits
    modality = lookup.of(settings.input)

    def compute(out: Path) -> None:
        table, _ = scan.survey(read_by, limits, modality)
        table.to_parquet(out / "items.parquet", index=False)

    ref = content_store.result(
        "survey",
        compute,
        inputs={"data": dataset_versions.fingerprint(dataset)},
        settings={
            "file": read_by.name,
            "limits": limits.model_dump(),
            "left_out": scan.left_out(read_by, modality),
        },
        code=["transfer.data.scan", lookup.code(modality.name)],
    )
    return compare.items_of(pd.read_parquet(ref.path / "items.parquet"))


def _sift(
    root: Path, known: Sequence[str] | None, delivery: Delivery, settings: Settings
) -> tuple[list[Item], list[Reject]]:
    """The items of a delivery that could be taken, and all that could not."""
    modality = lookup.of(settings.input)
    table, rejects = scan.survey(root, settings.input.limits, modality)
    rejects = [*delivery.rejects, *rejects]
    if root.suffix == ".csv":
        named = [*table["id"], *(reject.path for reject in rejects)]
        rejects += extend.unlisted(root, named)
    bad = compare.unfit(table, settings.validate_, modality)
    items = compare.items_of(table)
    bad += [] if known is None else compare.unknown_classes(items, known)
    bad += [
        Reject(item.id, "hidden", "hidden files and folders are no part of a dataset")
        for item in items
        if any(part.startswith(".") for part in item.id.split("/"))
    ]
    out = {reject.path for reject in bad}
    return [item for item in items if item.id not in out], [*rejects, *_once(bad)]


def _once(rejects: Sequence[Reject]) -> list[Reject]:
    return list({reject.path: reject for reject in reversed(rejects)}.values())[::-1]


def _refusal(
    good: Sequence[Item], rejects: Sequence[Reject], delivery: Delivery, settings: Settings
) -> str:
    """Why nothing of a delivery is taken, if so."""
    bad = [reject for reject in rejects if reject.reason != "hidden"]
    if not good and not bad:
        return f"{delivery.name} holds no item; expected {extend.LAYOUTS}"
    share, most = len(bad) / (len(bad) + len(good)), settings.ingest.max_reject_share
    if share <= most:
        return ""
    why = pd.Series([reject.reason for reject in bad]).value_counts()
    told = ", ".join(f"{n} {reason}" for reason, n in why.items())
    first = f"{bad[0].path}: {bad[0].detail}"
    hint = "; --new-classes takes new classes" if "unknown_class" in why else ""
    return (
        f"{len(bad)} of {len(bad) + len(good)} files in {delivery.name} cannot be used ({share:.0%}"
        f", ingest.max_reject_share is {most:.0%}), so nothing was taken: {told}. {first}{hint}"
    )


def _quarantine(changes: Changes, root: Path) -> str:
    """Put rejected files aside under the delivery's digest, with a list that says why."""
    bad = changes.unusable()
    if not bad:
        return ""
    folder = paths.QUARANTINE / changes.digest[:12]
    for one in bad:
        file = (root if root.is_dir() else root.parent) / one.path
        aside = folder / "files" / one.path
        if archive.checked(one.path, MANY) == one.path and file.is_file():  # it leads nowhere else
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, aside)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([("path", "reason", "detail"), *((o.path, o.reason, o.detail) for o in bad)])
    write_atomic(folder / "rejects.csv", text.getvalue().encode())
    return folder.as_posix()


def _begin(
    root: Path,
    dataset: Path,
    existing: Sequence[Item],
    found: Findings,
    changes: Changes,
    wishes: Wishes,
    modality: Modality,
) -> Changes:
    """Write the journal, from which on the ingest is carried through."""
    if root.suffix == ".npz" and not existing:
        dataset = dataset.with_suffix(".npz")
    old = dataset_versions.fingerprint_files(dataset) if dataset.is_dir() else {}
    asked = _plan(root, dataset, existing, old, found, modality)
    folder = root if root.is_dir() else root.parent
    new = ingest_journal.work(paths.DATA) / "new"
    for name, content in asked.rewrites.items():
        write_atomic(new / (name or dataset.name), content)
    for source, _ in asked.arrivals:
        fsync(folder / source)
    files = _after(old, asked, folder)
    changes = changes.model_copy(
        update={
            "taken": True,
            "after": files.get("") or of_files(files),
            "added": asked.added,
            "removed": asked.removed,
            "relabelled": asked.relabelled,
        }
    )
    text = paths.DATA_DVC.read_text(encoding="utf-8") if paths.DATA_DVC.exists() else ""
    told = {"arrivals": asked.arrivals, "moves": asked.moves, "removals": asked.removals}
    begun = {
        "name": dataset.name,
        "from": folder.relative_to(ingest_journal.work(paths.DATA)).as_posix(),
        "rewrites": list(asked.rewrites),
        "data_dvc": text,
        "taking_back": False,
        "commit": wishes.commit,
        "push": wishes.push,
        "changes": changes.model_dump(mode="json"),
        **told,
    }
    ingest_journal.begin(paths.DATA, begun)
    return changes


def _plan(
    root: Path,
    dataset: Path,
    existing: Sequence[Item],
    old: Mapping[str, str],
    found: Findings,
    modality: Modality,
) -> Plan:
    """Plan for what the dataset is; a new one is what the delivery is."""
    read_by = extend.kind(dataset) if existing else _new(root, dataset, modality)
    if (read_by.suffix == ".npz") != (root.suffix == ".npz"):
        raise DataRefusedError(
            f"{dataset} is {'' if read_by.suffix == '.npz' else 'no '}.npz file, and the delivery "
            f"is {root.name}; expected the same kind"
        )
    if read_by.suffix == ".npz":
        return extend.into_arrays(read_by, root, found, name=dataset.name, modality=modality)
    if read_by.suffix == ".csv":
        return extend.into_table(read_by, old, found)
    return extend.into_folder(existing, old, found, by_class_folder=root.is_dir())


def _new(root: Path, dataset: Path, modality: Modality) -> Path:
    """What a new dataset begins as: an empty one of the delivery's kind, beside the data."""
    if root.is_dir():
        return dataset
    first = ingest_journal.work(paths.DATA) / "first" / root.name
    is_arrays = root.suffix == ".npz"
    empty = extend.empty_arrays(root, modality) if is_arrays else extend.empty_table(root)
    write_atomic(first, empty)
    return first


def _after(old: Mapping[str, str], asked: Plan, folder: Path) -> dict[str, str]:
    """md5 of each file of the dataset when all is done; of the dataset as '' where it is a file."""
    moved = {new: old[was] for was, new in asked.moves}
    gone = {*asked.removals, *(was for was, _ in asked.moves)}
    kept = {name: md5 for name, md5 in old.items() if name not in gone}
    came = {new: of_bytes((folder / source).read_bytes()) for source, new in asked.arrivals}
    rewritten = {name: of_bytes(content) for name, content in asked.rewrites.items()}
    return kept | moved | came | rewritten


@step("move in", tags=["data"])
def carry_out() -> None:
    """Do what the journal says; what was done before is left as it is.

    Raises:
        CrosstrainError: the dataset was changed by another hand since the journal was written.
    """
    begun = _begun()
    work, dataset = ingest_journal.work(paths.DATA), paths.DATA / begun["name"]
    try:
        for source, new in begun["arrivals"]:
            settle(work / begun["from"] / source, dataset / new)
        for was, new in begun["moves"]:
            settle(dataset / was, dataset / new)
        for name in begun["removals"]:
            (dataset / name).unlink(missing_ok=True)
        for name in begun["rewrites"]:
            new = work / "new" / (name or dataset.name)
            if new.exists():
                dataset.parent.mkdir(parents=True, exist_ok=True)
                new.replace(dataset / name if name else dataset)
    except (FileExistsError, FileNotFoundError) as error:
        raise _changed(begun, str(error)) from error
    _tidy(dataset, [name for name, _ in begun["moves"]] + begun["removals"])
    if (found := dataset_versions.fingerprint(dataset)) != begun["changes"]["after"]:
        raise _changed(begun, f"found {found}, expected {begun['changes']['after']}")


def _begun() -> dict[str, Any]:
    begun = ingest_journal.interrupted(paths.DATA)
    if begun is None:
        raise CrosstrainError(f"there is no journal in {ingest_journal.work(paths.DATA)}")
    return begun


def _changed(begun: Mapping[str, Any], told: str) -> CrosstrainError:
    return CrosstrainError(
        f"{paths.DATA / begun['name']} was changed by another hand while it was added to ({told}); "
        "undo that and run `crosstrain ingest --resume`, or take the ingest back with `crosstrain "
        "ingest --take-back`"
    )


def _tidy(dataset: Path, left: Sequence[str]) -> None:
    """Remove folders that were emptied, and see that all folders are on disk."""
    for name in left:
        folder = (dataset / name).parent
        while folder != dataset and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    if dataset.is_dir():
        for folder in (dataset, *(path for path in dataset.rglob("*") if path.is_dir())):
            fsync(folder)
    fsync(dataset.parent)


@step("record", tags=["data"], retries=3)
def accept() -> None:
    """Make the data as it is the recorded version; DVC may be busy with another command."""
    dataset_versions.accept(paths.DATA_DVC, ingesting=True)


@step("share", tags=["data"])
def share() -> tuple[Changes, str]:
    """Commit data.dvc and push the data, where that was asked for.

    Returns:
        The ingest's report, and what failed: no reason to leave an ingest unfinished.
    """
    begun = _begun()
    changes = Changes.model_validate(begun["changes"])
    try:
        if begun["commit"]:
            changes = changes.model_copy(update={"commit": _commit(changes)})
        if begun["push"]:
            records.dvc(Path(), "push", paths.DATA_DVC.as_posix())
            changes = changes.model_copy(update={"pushed": True})
    except CrosstrainError as error:
        return changes, f"the data is in {paths.DATA / begun['name']} and recorded, but {error}"
    return changes, ""


def _commit(changes: Changes) -> str:
    ignore = Path(".gitignore")
    files = [paths.DATA_DVC]
    if git.added_lines(ignore) == {f"/{paths.DATA}"}:  # DVC's own, and nothing else
        files.append(ignore)
    lines = [
        f"{name}: {', '.join(told)}"
        for name, one in changes.classes.items()
        if (told := [f"{n} {what}" for what, n in _counts(one) if n])
    ]
    head = f"Ingest {changes.delivery} into {changes.dataset}: {changes.sentence()}"
    return git.commit(files, "\n".join([head, "", *lines]))


def _counts(one: Any) -> list[tuple[str, int]]:
    told = ("added", "removed", "relabelled_to", "relabelled_from")
    return [(name.replace("_", " "), getattr(one, name)) for name in told]


@step("finish", tags=["data"])
def finish(changes: Changes) -> Changes:
    """Write the report, and remove the journal."""
    _report(changes)
    ingest_journal.finish(paths.DATA)
    return changes


def _report(changes: Changes) -> None:
    write_atomic(REPORT, changes.model_dump_json(indent=1).encode())


def take_back() -> str:
    """Undo an ingest that was interrupted; the dataset's name.

    Raises:
        CrosstrainError: DVC cannot restore the dataset, with what it said.
    """
    begun = _begun()
    if not begun["taking_back"]:
        ingest_journal.begin(paths.DATA, begun | {"taking_back": True})
    dataset_versions.restore(paths.DATA_DVC, begun["data_dvc"], begun["name"])
    ingest_journal.finish(paths.DATA)
    return str(begun["name"])


def is_taken_back() -> bool:
    """Whether the interrupted ingest was being taken back."""
    return bool(_begun()["taking_back"])
