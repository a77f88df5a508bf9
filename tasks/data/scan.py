"""Identifies a dataset by its md5, and decodes each of its files once."""

from pathlib import Path

from tasks.runtime import paths
from tasks.runtime.artifacts import Dataset, Ref
from tasks.runtime.step import step
from tasks.store import content_store
from tasks.versioning import dataset_versions
from transfer.core.errors import DataRefusedError
from transfer.data import scan as library
from transfer.modalities import lookup
from transfer.modalities.interface import InputSettings, InputSpec
from transfer.settings.project import DatasetSettings


@step("fingerprint", tags=["data"])
def fingerprint(settings: DatasetSettings) -> Dataset:
    """Identify a dataset by DVC's md5, and compare it with data.dvc if it is recorded there."""
    return Dataset(
        settings.label, settings.path, dataset_versions.verify(settings.path, paths.DATA_DVC)
    )


@step("specify", tags=["data"])
def specify(settings: InputSettings, datasets: list[Dataset]) -> InputSpec:
    """Choose the form of all inputs from the settings and from all datasets."""
    modality = lookup.of(settings)
    return modality.specify(settings, [library.contents(d.path, modality) for d in datasets])


@step("scan", tags=["data"])
def scan(dataset: Dataset, spec: InputSpec, settings: InputSettings) -> Ref:
    """Decode a dataset into a manifest, a file of records and the list of rejects."""
    modality = lookup.of(spec)

    def compute(out: Path) -> None:
        library.scan(dataset.path, out, name=dataset.name, spec=spec, limits=settings.limits)
        if dataset_versions.fingerprint(dataset_versions.dataset_root(dataset.path)) != dataset.md5:
            raise DataRefusedError(
                f"{dataset.path} changed while it was read, for example by an ingest; run again"
            )

    return content_store.result(
        "scan",
        compute,
        inputs={"data": dataset.md5},
        settings={
            "name": dataset.name,
            "file": dataset.path.name,
            "spec": spec.model_dump(),
            "limits": settings.limits.model_dump(),
            "left_out": library.left_out(dataset.path, modality),
        },
        code=["transfer.data.scan", lookup.code(modality.name)],
    )
