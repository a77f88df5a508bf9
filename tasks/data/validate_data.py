"""Validates both datasets before training."""

import json
from importlib.metadata import version
from pathlib import Path

from tasks.data.validation_report import ValidationReport, refuse, table
from tasks.runtime.artifacts import Ref
from tasks.runtime.step import log, step
from tasks.store import content_store
from transfer.data.quality.checks import ScannedDataset
from transfer.modalities import lookup
from transfer.settings.project import Settings


@step("validate", tags=["data"])
def validate(scans: tuple[Ref, Ref], splits: tuple[Ref, Ref] | None, settings: Settings) -> Ref:
    """Check source and target (in this order) against the expectations in params.yaml.

    Args:
        scans: the decoded datasets.
        splits: their splits; None if a split was refused: expectations about splits are left out.
        settings: settings with the thresholds.

    Raises:
        DataRefusedError: an expectation failed; the message is the table of failures.
    """

    def compute(out: Path) -> None:
        from tasks.data.expectation_suite import validate as run

        divided = [None, None] if splits is None else [ref.path for ref in splits]
        source, target = (
            ScannedDataset.load(ref.path, split) for ref, split in zip(scans, divided, strict=True)
        )
        near = None
        if splits is not None:
            split_report = json.loads((splits[1].path / "split.json").read_text())
            near = split_report["near_duplicates"]
        run(source, target, settings=settings.validate_, out=out, near=near)

    inputs = {f"scan{i}": ref.digest for i, ref in enumerate(scans)}
    inputs |= {f"split{i}": ref.digest for i, ref in enumerate(splits or ())}
    ref = content_store.result(
        "validate",
        compute,
        inputs=inputs,
        settings={
            "thresholds": settings.validate_.model_dump(mode="json"),
            "great_expectations": version("great_expectations"),
            "page": Path(__file__).with_name("validation.html").read_text(encoding="utf-8"),
        },
        code=[
            "transfer.data.quality.expectations",
            "transfer.data.quality.checks",
            "tasks.data.expectation_suite",
            lookup.code(settings.input.modality),
        ],
    )
    report = ValidationReport.load(ref.path)
    if report.warnings:
        log.warning("validation warns:\n%s", table(report.warnings))
    refuse(report)
    return ref
