"""Ask, before any arm is trained, which sources are worth the budget."""

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
    inputs = {f"knowledge {one.name}": one.knowledge.digest for one in sources}
    inputs |= {
        f"{one.name} {key}": digest
        for one in sources
        if one.items
        for key, digest in one.items.inputs().items()
    }

    def compute(out: Path) -> None:
        found = _advise(sources, target, settings, machine)
        rows = [one.model_dump(mode="json") for one in found]
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
        log.info("most promising first: %s", ", ".join(one.name for one in ranked))
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
            candidate(pretrain.load(one.knowledge.path), items, source_items(one), recipe),
            name=one.name,
        )
        for one in sources
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
    best = {one.name for one in ranked[:keep]}
    return [one for one in sources if one.name in best]
