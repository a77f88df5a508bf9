"""Draws the plots of the report: samples, augmentation, curves, arms, confusion, reliability."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.evaluation import evaluate
from tasks.reports import report_plots
from tasks.reports.plot_style import svg
from tasks.reports.report_plots import Curve
from tasks.runtime.artifacts import ArmRef, Divided, Ref, Source
from tasks.runtime.step import step
from tasks.store import content_store
from transfer.data.items import labelled_items, pool_items
from transfer.data.manifest import Manifest
from transfer.data.storage.tensor_store import spec_of
from transfer.modalities import lookup

SHOWN = 8  # items per class


def curves(sources: list[Source], arms: list[ArmRef]) -> list[Curve]:
    """Curves of every pretraining of this run, and of the first network of every arm."""
    all_curves = []
    for source in sources:
        card = json.loads((source.knowledge.path / "card.json").read_text())
        name = "pretrain" if len(sources) == 1 else f"pretrain {source.name}"
        all_curves += [_curve(name, card["history"])] if card["history"] else []
    for arm in arms:
        histories = json.loads((arm.ref.path / "history.json").read_text())
        all_curves.append(_curve(arm.name, histories[0]))
    return all_curves


def _curve(name: str, history: dict[str, Any]) -> Curve:
    return Curve(
        name=name,
        step=[int(step) for step in history["step"]],
        loss=history["loss"],
        validation_step=[int(step) for step in history["validation_step"]],
        validation=history["validation_loss"],
    )


@step("draw", tags=["report"])
def draw(
    evaluated: Ref,
    datasets: Sequence[Divided],
    target: Divided,
    previewed: Ref,
    sources: list[Source],
    arms: list[ArmRef],
) -> Ref:
    """Store every plot of the report.

    Args:
        evaluated: the figures.
        datasets: the datasets of the pretraining.
        target: the dataset that the model is for.
        previewed: items and augmented copies of them.
        sources: the knowledge sources, for their learning curves.
        arms: the arms, for their learning curves.
    """

    modality = lookup.of(spec_of(target.scan.path))

    def compute(out: Path) -> None:
        (out / "target_samples.svg").write_bytes(_sheet(target))
        for number, dataset in enumerate(datasets, 1):
            (out / f"source_samples_{number}.svg").write_bytes(_sheet(dataset))
        with np.load(previewed.path / "preview.npz", allow_pickle=False) as stored:
            figure = report_plots.augmentation_preview(
                stored["originals"], stored["varied"], modality
            )
        (out / "augmentation.svg").write_bytes(svg(figure))
        drawn = report_plots.of_result(evaluate.load(evaluated), curves(sources, arms))
        for name, figure in drawn.items():
            (out / f"{name}.svg").write_bytes(svg(figure))

    inputs = {
        "evaluation": evaluated.digest,
        "preview": previewed.digest,
        **{f"knowledge {source.name}": source.knowledge.digest for source in sources},
        **{
            f"source {number} {name}": digest
            for number, dataset in enumerate(datasets)
            for name, digest in dataset.inputs().items()
        },
        **target.inputs(),
    }
    return content_store.result(
        "draw",
        compute,
        inputs=inputs,
        settings={"matplotlib": version("matplotlib")},
        code=[
            "tasks.reports.report_figures",
            "tasks.reports.report_plots",
            "tasks.reports.plot_style",
            lookup.code(modality.name),
        ],
    )


def _sheet(divided: Divided) -> bytes:
    manifest = Manifest.load(divided.scan.path)
    items = labelled_items(divided.scan.path, divided.split.path)
    records, labels, names = items.records, items.labels, manifest.class_names
    if not len(items):
        records = pool_items(divided.scan.path, divided.split.path, with_val=True).records
        labels, names = torch.zeros(len(records), dtype=torch.long), ("no label",)
    title = f"{manifest.name}: {len(manifest)} items, training split"
    rows = torch.cat([(labels == k).nonzero()[:SHOWN, 0] for k in range(len(names))])
    sheet = report_plots.sample_sheet(
        records[rows].numpy(),
        labels[rows].numpy(),
        names,
        lookup.get(manifest.modality),
        SHOWN,
        title=title,
    )
    return svg(sheet)


def load(ref: Ref) -> dict[str, bytes]:
    """Every stored plot by its name."""
    return {p.stem: p.read_bytes() for p in sorted(ref.path.iterdir()) if p.suffix != ".json"}
