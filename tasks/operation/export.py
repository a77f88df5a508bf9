"""A champion in another format: loaded, converted, judged, placed, and recorded."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from tasks.data.scan import fingerprint, scan
from tasks.data.split import folds_for, split_target
from tasks.registry import audit_record, versions
from tasks.runtime import paths
from tasks.runtime.artifacts import Dataset, Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from tasks.tracking import files as model_files
from tasks.tracking import run_files
from transfer.core.atomic_files import write_atomic
from transfer.core.errors import DataRefusedError
from transfer.data.items import pool_items, test_items
from transfer.deployment.export import export as library
from transfer.deployment.export import packages, tflite
from transfer.deployment.export.export import Format, Report
from transfer.models import checkpoint
from transfer.models.network import backbone_modules
from transfer.models.predictor import Card
from transfer.settings import project
from transfer.settings.project import Settings


@dataclass(frozen=True)
class Subject:
    """A champion, and the settings that it was made with."""

    name: str
    version: int
    run_id: str
    folder: Path
    card: Card
    made_with: Settings


def champion(target: str) -> Subject:
    """The champion of a target, with the settings in its blessing record.

    Raises:
        NothingToDoError: there is no champion, or no record of its promotion.
        ModelFileError: its files cannot be read.
        SettingsError: its settings are of another version.
    """
    version = versions.champion_of(target)
    name = version.name
    record = audit_record.record_of(name, version.version)
    where = f"the record of version {version.version} of {name}"
    folder = model_files.model_folder(name, version.version)
    return Subject(
        name,
        version.version,
        version.run_id,
        folder,
        checkpoint.load_card(folder, Card),
        project.check(yaml.safe_load(record["settings"]), where),
    )


def check(format: Format, settings: Settings) -> None:
    """Make sure that what a format needs is installed, before anything else is done.

    Raises:
        SettingsError: a package or a program that it needs is missing.
    """
    if format == "tflite":
        tflite.check(settings.export.tflite_python)
    else:
        packages.versions()


def divide(subject: Subject, settings: Settings, *, changed_data: bool) -> Divided:
    """The target, decoded and split as they were for the champion: it was trained on no test item.

    Args:
        subject: the champion; everything but the path of the data is as in its record.
        settings: the present settings; their path is used if they name the same target.
        changed_data: continue with another version of the data than the champion was made from.

    Raises:
        DataRefusedError: the data is another version.
    """
    made = subject.made_with
    same = settings.target.label == made.target.label
    place = made.target.model_copy(update={"path": settings.target.path}) if same else made.target
    dataset = fingerprint(place)
    if not changed_data:
        _check_version(subject, dataset)
    inputs = made.input.model_copy(update={"limits": subject.card.limits})
    scanned = scan(dataset, subject.card.spec, inputs)
    return Divided(scanned, split_target(scanned, made, folds_for(scanned, made)))


def _check_version(subject: Subject, dataset: Dataset) -> None:
    expected = subject.card.data.get(dataset.name)
    if dataset.md5 != expected:
        raise DataRefusedError(
            f"{dataset.path} is {dataset.md5}; version {subject.version} of {subject.name} was "
            f"made from {expected}. Restore that version, or train on this one; or measure the "
            "export on the present data with --changed-data: items keep their split as data grows, "
            "but an edited file is another item"
        )


@step("convert", tags=["export"])
def convert(subject: Subject, target: Divided, format: Format, settings: Settings) -> Ref:
    """Store the champion in another format, with its figures on the test split."""
    made, about = subject.made_with, {"calibration", "tflite_python"}
    ways = settings.export.model_dump(mode="json", include=about)
    if format == "tflite":
        versions = {"made by": tflite.REQUIREMENTS}
    else:
        versions, ways = packages.versions(), {**ways, "tflite_python": ""}
    with_val = folds_for(target.scan, made) > 0 or made.target.labels_per_class == 0

    def compute(out: Path) -> None:
        library.export(
            subject.folder,
            out,
            format=format,
            name=subject.name,
            version=subject.version,
            pool=pool_items(target.scan.path, target.split.path, with_val=with_val),
            test=test_items(target.scan.path, target.split.path),
            settings=settings.export,
            evaluate=settings.evaluate,
        )

    return content_store.result(
        "export",
        compute,
        inputs={"model": content_store.digest_of(subject.folder)[0], **target.inputs()},
        settings={
            "format": format,
            "name": [subject.name, subject.version],
            "ways": ways,
            "with_val": with_val,
            "evaluate": settings.evaluate.model_dump(mode="json"),
            "versions": versions,
            "machine": library.machine(),
        },
        code=[
            "transfer.deployment.export.export",
            "transfer.deployment.export.litert_script",
            *_loaded_modules(subject.card),
        ],
    )


def _loaded_modules(card: Card) -> list[str]:
    """Modules of the modality and of the backbones, which are loaded by name: imports do not lead
    to them."""
    return backbone_modules(card.spec.modality, *(member.backbone_spec for member in card.members))


@step("place", tags=["export"])
def place(converted: Ref, out: Path, margin: float) -> Report:
    """Write an export to its folder if it is good enough; nothing of a refused export is written.

    The file is written atomically, and after it its report, with the file's SHA-256.

    Raises:
        ExportRefusedError: the measurements do not show that it is as good as the model.
    """
    report = library.load(converted.path)
    library.judge(report, margin)
    write_atomic(out / report.file, (converted.path / report.file).read_bytes())
    write_atomic(out / f"{report.file}.md", library.page(report).encode())
    report_json = report.model_dump_json(indent=1) + "\n"
    write_atomic(out / f"{report.file}.json", report_json.encode())
    return report


@step("record", tags=["tracking"], retries=2)
def record(subject: Subject, report: Report, out: Path) -> None:
    """Store an export with the champion's run, and its figures on the champion's version.

    The registry then shows which formats of a version exist and what each loses, and the files move
    with mlruns/.
    """
    files = [out / f"{report.file}{end}" for end in ("", ".md", ".json")]
    run_files.keep_files(subject.run_id, "exports", files)
    figures = {
        "sha256": report.sha256,
        "accuracy": f"{report.parity.accuracy:.6f}",
        "drop": f"{-report.parity.gain.point:.6f}",
        "drop_high": f"{-report.parity.gain.low:.6f}",
        "megabytes": f"{report.engines[-1].bytes / 1e6:.3f}",
    }
    tags = {f"export.{report.format}.{name}": value for name, value in figures.items()}
    run_files.tag_version(subject.name, subject.version, tags)


def default_place(target: str) -> Path:
    """The folder for exports of a target, unless another one is named."""
    return paths.EXPORTS / target
