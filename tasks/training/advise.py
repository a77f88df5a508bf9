"""Rank the sources by their transferability measures before any arm is trained."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.runtime.artifacts import Divided, Ref, Source
from tasks.runtime.step import log, step
from tasks.store import content_store
from tasks.training.source_items import source_items, source_modules
from transfer.arms import pretrain
from transfer.data.items import labelled_items, normalisation
from transfer.data.manifest import Manifest
from transfer.data.storage.tensor_store import spec_of
from transfer.settings.project import Settings
from transfer.training.recipe import Machine, Recipe
from transfer.transferability import advisor as library
from transfer.transferability.advisor import Advice
from transfer.transferability.source_probing import candidate


@step("advise", tags=["select"])
def advise(sources: Sequence[Source], target: Divided, settings: Settings, machine: Machine) -> Ref:
    """Store the measures of every source, best first; none where the target has no label."""
    inputs = {f"knowledge {source.name}": source.knowledge.digest for source in sources}
    inputs |= {
        f"{source.name} {key}": digest
        for source in sources
        if source.items
        for key, digest in source.items.inputs().items()
    }

    def compute(out: Path) -> None:
        ranked = _advise(sources, target, settings, machine)
        rows = [advice.model_dump(mode="json") for advice in ranked]
        (out / "advice.json").write_text(json.dumps(rows, indent=1))

    ref = content_store.result(
        "advise",
        compute,
        inputs=target.inputs() | inputs,
        settings={"machine": vars(machine)},
        code=[
            "transfer.transferability.advisor",
            "transfer.transferability.source_probing",
            "tasks.training.source_items",
            *source_modules(sources, settings.input.modality),
        ],
    )
    if len(sources) > 1 and (ranked := load(ref)):
        log.info("most promising first: %s", ", ".join(advice.name for advice in ranked))
    return ref


def _advise(
    sources: Sequence[Source], target: Divided, settings: Settings, machine: Machine
) -> list[Advice]:
    items = labelled_items(target.scan.path, target.split.path)
    if not len(items) or not sources:
        return []
    names = Manifest.load(target.scan.path).class_names
    spec = spec_of(target.scan.path)
    normal, training = normalisation(items, spec), settings.adapt.training
    recipe = Recipe(training, settings.augment, normal, len(names), machine, spec=spec)
    candidates = [
        replace(
            candidate(pretrain.load(source.knowledge.path), items, source_items(source), recipe),
            name=source.name,
        )
        for source in sources
    ]
    return library.advise(candidates, items.labels.numpy(), names, items.groups.tolist())


def load(ref: Ref) -> list[Advice]:
    """Read what `advise` stored."""
    return [
        Advice.model_validate(row) for row in json.loads((ref.path / "advice.json").read_text())
    ]


def promising(sources: Sequence[Source], advised: Ref, keep: int | None) -> list[Source]:
    """The sources that arms are trained on: the first ``keep`` by rank, or all."""
    if keep is None or not (ranked := load(advised)):
        return list(sources)
    best = {advice.name for advice in ranked[:keep]}
    return [source for source in sources if source.name in best]
