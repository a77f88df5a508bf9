"""Splits the datasets so that no test or validation item leaks into training."""

from pathlib import Path

from tasks.runtime.artifacts import Divided, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.core.errors import DataRefusedError
from transfer.data.manifest import Manifest
from transfer.data.splits import duplicates
from transfer.data.splits import split as library
from transfer.data.storage import tensor_store
from transfer.modalities import lookup
from transfer.settings.project import Settings, SourceSettings

CODE = ["transfer.data.splits.split", "transfer.data.scan"]


def folds_for(scanned: Ref, settings: Settings) -> int:
    """Number of folds of the target's labelled items; 0 uses its validation split instead."""
    manifest, cap = Manifest.load(scanned.path), settings.target.labels_per_class
    labelled = round(len(manifest) * (1 - settings.split.test))
    if cap == 0:
        return 0
    if cap is not None:
        labelled = min(labelled, cap * len(manifest.class_names))
    return settings.adapt.folds_for(labelled)


@step("split target", tags=["data"])
def split_target(scanned: Ref, settings: Settings, folds: int) -> Ref:
    """Split the target, refuse a class that is missing in a split, and find near-duplicates."""
    near = settings.validate_.near_duplicate_rms
    cap = settings.target.labels_per_class
    merge = folds > 0 or cap == 0
    modality = lookup.of(settings.input)

    def compute(out: Path) -> None:
        manifest = Manifest.load(scanned.path)
        table = library.split(manifest, settings.split, labels_per_class=cap, merge_val=merge)
        library.check_coverage(
            manifest, table, settings.split, folds=folds, labels_per_class=cap, merge_val=merge
        )
        pairs = duplicates.near_pairs(
            tensor_store.on_disk(scanned.path),
            manifest.items,
            table["split"],
            modality=modality,
            max_rms=near,
        )
        library.save(out, manifest, table, pairs)

    parts = {"split": settings.split.model_dump(), "cap": cap, "folds": folds, "near": near}
    return content_store.result(
        "split",
        compute,
        inputs={"scan": scanned.digest},
        settings=parts,
        code=[*CODE, lookup.code(modality.name)],
    )


@step("split source", tags=["data"])
def split_source(scanned: Ref, target: Divided, settings: SourceSettings, folds: int) -> Ref:
    """Split the source; leave out items equal to a validation or test item of the target."""

    def compute(out: Path) -> None:
        manifest, other = Manifest.load(scanned.path), Manifest.load(target.scan.path)
        table = library.split(manifest, settings.split, labels_per_class=None, merge_val=False)
        table = library.leave_out(
            table,
            manifest,
            other,
            library.load(target.split.path, other),
            labelled=folds > 0,
        )
        if not (table["split"] == "val").any():
            raise DataRefusedError(
                f"the source {manifest.name} has no validation item among {len(manifest)}; "
                f"raise source.split.val (now {settings.split.val:g}) or add items"
            )
        library.save(out, manifest, table, [])

    return content_store.result(
        "split",
        compute,
        inputs={
            "scan": scanned.digest,
            "target_scan": target.scan.digest,
            "target_split": target.split.digest,
        },
        settings={"split": settings.split.model_dump(), "folds": folds},
        code=CODE,
    )
