"""Adds new data to a dataset: completely or not at all, one ingest at a time.

Before the journal is written, the dataset is unchanged, and a killed ingest leaves only a folder
that the next one removes. Afterwards, every file that will be moved lies beside the data, and each
step sets an absolute state: a killed ingest is completed by running all its steps again.
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
from transfer.core.atomic_files import fsync, move_without_overwriting, write_atomic
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError
from transfer.data import scan
from transfer.data.ingest import archive, compare
from transfer.data.ingest import plan as ingest_plan
from transfer.data.ingest.changes import Changes, Rejected
from transfer.data.ingest.compare import Findings, Item
from transfer.data.ingest.plan import Plan
from transfer.data.readers.listing import Reject
from transfer.modalities import lookup
from transfer.modalities.interface import Modality
from transfer.settings.project import DatasetSettings, Settings

REPORT = paths.REPORTS / "ingest.json"
MAX_DEPTH = 1000  # more folders than a delivery can have above a file


@dataclass(frozen=True)
class IngestOptions:
    """Options of an ingest: what to do besides adding new items."""

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
def exclusive() -> Iterator[None]:
    """Hold the lock of all ingests; other processes wait."""
    paths.DATA.mkdir(exist_ok=True)
    lock = FileLock(paths.DATA / ingest_journal.LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another ingest is running; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        if not interrupted():
            ingest_journal.finish(paths.DATA)
        lock.release()


def interrupted() -> bool:
    """Whether an ingest was begun and is not finished. The caller must hold the lock."""
    return ingest_journal.interrupted(paths.DATA) is not None


@step("prepare", tags=["data"])
def prepare(dataset: str, options: IngestOptions) -> Path:
    """Check everything that can be checked before a delivery is read, and preserve the data.

    Returns:
        Path of the dataset: a folder, or an .npz file; it need not exist.

    Raises:
        SettingsError: the name is not valid for a dataset, the project is not a DVC repository, or
            a requested commit or push cannot be made.
        DataRefusedError: the data differs from what data.dvc records.
    """
    place = place_of(dataset)
    dataset_versions.check_repository(paths.DATA_DVC)
    if options.commit:
        git.check(paths.DATA_DVC)
    if options.push:
        dataset_versions.check_remote(paths.DATA_DVC)
    ingest_journal.finish(paths.DATA)  # files of an ingest that was killed before it had a journal
    dataset_versions.verify_all(paths.DATA_DVC)
    dataset_versions.preserve(paths.DATA_DVC)
    return place


def place_of(dataset: str) -> Path:
    """Path of an existing or new dataset with this name.

    Raises:
        SettingsError: the name is not valid for a dataset.
    """
    try:
        DatasetSettings(path=Path(dataset))
        valid = Path(dataset).name == dataset and not dataset.startswith(".")
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            f"--dataset is {dataset!r}; expected the name of a folder or .npz file in "
            f"{paths.DATA}, of letters, digits, '_', '-', '.' and spaces"
        )
    place, arrays = paths.DATA / dataset, paths.DATA / f"{dataset}.npz"
    return arrays if arrays.exists() and not place.exists() else place


@step("receive", tags=["data"])
def receive(source: Path, settings: Settings) -> Delivery:
    """Unpack or copy a delivery to a folder beside the data."""
    folder = ingest_journal.work(paths.DATA) / "delivery"
    folder.mkdir(parents=True)
    return Delivery(source.name, folder, archive.receive(source, folder, settings.ingest.limits))


@step("compare", tags=["data"])
def plan(delivery: Delivery, dataset: Path, options: IngestOptions, settings: Settings) -> Changes:
    """Compare a delivery with the dataset, quarantine unusable files, and write the journal.

    Without a change, no journal is written.

    Raises:
        DataRefusedError: a larger share of the delivery is unusable than
            `ingest.max_reject_share`, or the delivery does not fit the dataset.
    """
    existing = _existing(dataset, settings)
    classes = sorted({item.label for item in existing})
    root = ingest_plan.delivered(delivery.folder, classes)
    known_classes = None if options.new_classes or not existing else classes
    usable, rejects = _usable_items(root, known_classes, delivery, settings)
    findings = compare.compare(existing, usable, relabel=options.relabel, replace=options.replace)
    numbers = compare.by_class(existing, usable, findings)
    files = dataset_versions.fingerprint_files(root if root.is_dir() else root.parent)
    before = dataset_versions.fingerprint(dataset) if dataset.exists() else ""
    changes = Changes(
        dataset=dataset.stem if dataset.suffix == ".npz" else dataset.name,
        delivery=delivery.name,
        digest=of_files(files).removesuffix(".dir"),
        before=before,
        after=before,
        taken=False,
        refused=_refusal(usable, rejects, delivery, settings),
        classes=numbers,
        added=[],
        removed=[],
        relabelled=[],
        duplicates=findings.duplicates,
        conflicts=findings.conflicts,
        rejects=[Rejected(**asdict(reject)) for reject in rejects],
        concerns=compare.concerns(numbers, settings.validate_),
        quarantine="",
    )
    changes = changes.model_copy(update={"quarantine": _quarantine(changes, root)})
    if changes.refused or not findings.changes:
        _report(changes)
        if changes.refused:
            raise DataRefusedError(changes.refused)
        return changes
    modality = lookup.of(settings.input)
    return _begin_changes(root, dataset, existing, findings, changes, options, modality)


def _existing(dataset: Path, settings: Settings) -> list[Item]:
    """The dataset's items, decoded once for each version of the dataset."""
    if not dataset.exists() or (dataset.is_dir() and not any(dataset.iterdir())):
        return []
    read_by, limits = ingest_plan.kind(dataset), settings.input.limits
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


def _usable_items(
    root: Path, known_classes: Sequence[str] | None, delivery: Delivery, settings: Settings
) -> tuple[list[Item], list[Reject]]:
    """The usable items of a delivery, and all rejects."""
    modality = lookup.of(settings.input)
    table, rejects = scan.survey(root, settings.input.limits, modality)
    rejects = [*delivery.rejects, *rejects]
    if root.suffix == ".csv":
        named = [*table["id"], *(reject.path for reject in rejects)]
        rejects += ingest_plan.unlisted(root, named)
    unusable = compare.unfit(table, settings.validate_, modality)
    items = compare.items_of(table)
    unusable += [] if known_classes is None else compare.unknown_classes(items, known_classes)
    unusable += [
        Reject(item.id, "hidden", "hidden files and folders are no part of a dataset")
        for item in items
        if any(part.startswith(".") for part in item.id.split("/"))
    ]
    rejected_paths = {reject.path for reject in unusable}
    return [item for item in items if item.id not in rejected_paths], [*rejects, *_unique(unusable)]


def _unique(rejects: Sequence[Reject]) -> list[Reject]:
    return list({reject.path: reject for reject in reversed(rejects)}.values())[::-1]


def _refusal(
    usable: Sequence[Item], rejects: Sequence[Reject], delivery: Delivery, settings: Settings
) -> str:
    """Why a whole delivery is refused; '' if it is not."""
    unusable = [reject for reject in rejects if reject.reason != "hidden"]
    if not usable and not unusable:
        return f"{delivery.name} contains no item; expected {ingest_plan.LAYOUTS}"
    share, most = len(unusable) / (len(unusable) + len(usable)), settings.ingest.max_reject_share
    if share <= most:
        return ""
    reasons = pd.Series([reject.reason for reject in unusable]).value_counts()
    counts = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    first = f"{unusable[0].path}: {unusable[0].detail}"
    hint = "; --new-classes takes new classes" if "unknown_class" in reasons else ""
    return (
        f"{len(unusable)} of {len(unusable) + len(usable)} files in {delivery.name} cannot be used "
        f"({share:.0%}, ingest.max_reject_share is {most:.0%}), so nothing was added: {counts}. "
        f"{first}{hint}"
    )


def _quarantine(changes: Changes, root: Path) -> str:
    """Copy rejected files to a folder named after the delivery's digest, with a list of reasons."""
    unusable = changes.unusable()
    if not unusable:
        return ""
    folder = paths.QUARANTINE / changes.digest[:12]
    for reject in unusable:  # a file is copied only if its path stays inside the folder
        file = (root if root.is_dir() else root.parent) / reject.path
        copy = folder / "files" / reject.path
        if archive.checked(reject.path, MAX_DEPTH) == reject.path and file.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows(
        [
            ("path", "reason", "detail"),
            *((reject.path, reject.reason, reject.detail) for reject in unusable),
        ]
    )
    write_atomic(folder / "rejects.csv", text.getvalue().encode())
    return folder.as_posix()


def _begin_changes(
    root: Path,
    dataset: Path,
    existing: Sequence[Item],
    findings: Findings,
    changes: Changes,
    options: IngestOptions,
    modality: Modality,
) -> Changes:
    """Write the journal. From then on, the ingest can be completed after a kill."""
    if root.suffix == ".npz" and not existing:
        dataset = dataset.with_suffix(".npz")
    old = dataset_versions.fingerprint_files(dataset) if dataset.is_dir() else {}
    planned = _plan_changes(root, dataset, existing, old, findings, modality)
    folder = root if root.is_dir() else root.parent
    new = ingest_journal.work(paths.DATA) / "new"
    for name, content in planned.rewrites.items():
        write_atomic(new / (name or dataset.name), content)
    for source, _ in planned.arrivals:
        fsync(folder / source)
    files = _md5s_after(old, planned, folder)
    changes = changes.model_copy(
        update={
            "taken": True,
            "after": files.get("") or of_files(files),
            "added": planned.added,
            "removed": planned.removed,
            "relabelled": planned.relabelled,
        }
    )
    text = paths.DATA_DVC.read_text(encoding="utf-8") if paths.DATA_DVC.exists() else ""
    steps = {"arrivals": planned.arrivals, "moves": planned.moves, "removals": planned.removals}
    journal = {
        "name": dataset.name,
        "from": folder.relative_to(ingest_journal.work(paths.DATA)).as_posix(),
        "rewrites": list(planned.rewrites),
        "data_dvc": text,
        "taking_back": False,
        "commit": options.commit,
        "push": options.push,
        "changes": changes.model_dump(mode="json"),
        **steps,
    }
    ingest_journal.begin(paths.DATA, journal)
    return changes


def _plan_changes(
    root: Path,
    dataset: Path,
    existing: Sequence[Item],
    old: Mapping[str, str],
    findings: Findings,
    modality: Modality,
) -> Plan:
    """Plan the changes for the format of the dataset; a new one has the format of the delivery."""
    read_by = ingest_plan.kind(dataset) if existing else _empty_dataset(root, dataset, modality)
    if (read_by.suffix == ".npz") != (root.suffix == ".npz"):
        raise DataRefusedError(
            f"{dataset} is {'an' if read_by.suffix == '.npz' else 'not an'} .npz file, and the "
            f"delivery is {root.name}; expected the same format"
        )
    if read_by.suffix == ".npz":
        return ingest_plan.into_arrays(
            read_by, root, findings, name=dataset.name, modality=modality
        )
    if read_by.suffix == ".csv":
        return ingest_plan.into_table(read_by, old, findings)
    return ingest_plan.into_folder(existing, old, findings, by_class_folder=root.is_dir())


def _empty_dataset(root: Path, dataset: Path, modality: Modality) -> Path:
    """Path of an empty new dataset in the format of the delivery, beside the data."""
    if root.is_dir():
        return dataset
    first = ingest_journal.work(paths.DATA) / "first" / root.name
    is_arrays = root.suffix == ".npz"
    empty = ingest_plan.empty_arrays(root, modality) if is_arrays else ingest_plan.empty_table(root)
    write_atomic(first, empty)
    return first


def _md5s_after(old: Mapping[str, str], planned: Plan, folder: Path) -> dict[str, str]:
    """md5 of each file of the dataset after the ingest; '' is the path of a single-file dataset."""
    moved = {new_name: old[old_name] for old_name, new_name in planned.moves}
    gone = {*planned.removals, *(old_name for old_name, _ in planned.moves)}
    kept = {name: md5 for name, md5 in old.items() if name not in gone}
    added = {
        new_name: of_bytes((folder / source).read_bytes()) for source, new_name in planned.arrivals
    }
    rewritten = {name: of_bytes(content) for name, content in planned.rewrites.items()}
    return kept | moved | added | rewritten


@step("move in", tags=["data"])
def carry_out() -> None:
    """Make the changes in the journal; changes that were already made are skipped.

    Raises:
        CrosstrainError: another program changed the dataset after the journal was written.
    """
    journal = _journal()
    work, dataset = ingest_journal.work(paths.DATA), paths.DATA / journal["name"]
    try:
        for source, new in journal["arrivals"]:
            move_without_overwriting(work / journal["from"] / source, dataset / new)
        for old_name, new in journal["moves"]:
            move_without_overwriting(dataset / old_name, dataset / new)
        for name in journal["removals"]:
            (dataset / name).unlink(missing_ok=True)
        for name in journal["rewrites"]:
            new = work / "new" / (name or dataset.name)
            if new.exists():
                dataset.parent.mkdir(parents=True, exist_ok=True)
                new.replace(dataset / name if name else dataset)
    except (FileExistsError, FileNotFoundError) as error:
        raise _changed_error(journal, str(error)) from error
    _remove_empty_folders(dataset, [name for name, _ in journal["moves"]] + journal["removals"])
    if (md5 := dataset_versions.fingerprint(dataset)) != journal["changes"]["after"]:
        raise _changed_error(journal, f"found {md5}, expected {journal['changes']['after']}")


def _journal() -> dict[str, Any]:
    journal = ingest_journal.interrupted(paths.DATA)
    if journal is None:
        raise CrosstrainError(f"there is no journal in {ingest_journal.work(paths.DATA)}")
    return journal


def _changed_error(journal: Mapping[str, Any], difference: str) -> CrosstrainError:
    return CrosstrainError(
        f"{paths.DATA / journal['name']} was changed by another program during the ingest "
        f"({difference}); undo that change and run `crosstrain ingest --resume`, or undo the "
        "ingest with `crosstrain ingest --take-back`"
    )


def _remove_empty_folders(dataset: Path, removed: Sequence[str]) -> None:
    """Remove empty folders, and make sure that all folders are on disk."""
    for name in removed:
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
    """Record the current data as the new version; retried if DVC is busy with another command."""
    dataset_versions.accept(paths.DATA_DVC, ingesting=True)


@step("share", tags=["data"])
def share() -> tuple[Changes, str]:
    """Commit data.dvc and push the data, if requested.

    Returns:
        The ingest's report, and the error message of a failure; the ingest is finished anyway.
    """
    journal = _journal()
    changes = Changes.model_validate(journal["changes"])
    try:
        if journal["commit"]:
            changes = changes.model_copy(update={"commit": _commit(changes)})
        if journal["push"]:
            records.dvc(Path(), "push", paths.DATA_DVC.as_posix())
            changes = changes.model_copy(update={"pushed": True})
    except CrosstrainError as error:
        return changes, f"the data is in {paths.DATA / journal['name']} and recorded, but {error}"
    return changes, ""


def _commit(changes: Changes) -> str:
    ignore = Path(".gitignore")
    files = [paths.DATA_DVC]
    if git.added_lines(ignore) == {f"/{paths.DATA}"}:  # added by DVC, and no other line
        files.append(ignore)
    lines = [
        f"{name}: {', '.join(counts)}"
        for name, class_changes in changes.classes.items()
        if (counts := [f"{n} {change}" for change, n in _counts(class_changes) if n])
    ]
    head = f"Ingest {changes.delivery} into {changes.dataset}: {changes.sentence()}"
    return git.commit(files, "\n".join([head, "", *lines]))


def _counts(class_changes: Any) -> list[tuple[str, int]]:
    fields = ("added", "removed", "relabelled_to", "relabelled_from")
    return [(name.replace("_", " "), getattr(class_changes, name)) for name in fields]


@step("finish", tags=["data"])
def finish(changes: Changes) -> Changes:
    """Write the report, and remove the journal."""
    _report(changes)
    ingest_journal.finish(paths.DATA)
    return changes


def _report(changes: Changes) -> None:
    write_atomic(REPORT, changes.model_dump_json(indent=1).encode())


def take_back() -> str:
    """Undo an interrupted ingest; returns the name of the dataset.

    Raises:
        CrosstrainError: DVC cannot restore the dataset; the message contains its output.
    """
    journal = _journal()
    if not journal["taking_back"]:
        ingest_journal.begin(paths.DATA, journal | {"taking_back": True})
    dataset_versions.restore(paths.DATA_DVC, journal["data_dvc"], journal["name"])
    ingest_journal.finish(paths.DATA)
    return str(journal["name"])


def is_taken_back() -> bool:
    """Whether the interrupted ingest was being undone."""
    return bool(_journal()["taking_back"])
