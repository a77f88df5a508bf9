"""Outputs of a pretrained network for the target's items, before any training: the input of
`transfer.transferability.advisor`.

Shapes: N labelled target items, M source items, D features, Ks source classes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from transfer.data.items import SourceItems, TrainItems, spread
from transfer.data.storage.tensor_store import Records
from transfer.models.network import Network, build
from transfer.models.parameter_transfer import Knowledge, transplant
from transfer.training.batches import embed
from transfer.training.recipe import Recipe
from transfer.transferability.advisor import Candidate

MAX_SOURCE_ITEMS = 2000


def candidate(
    knowledge: Knowledge, items: TrainItems, source: SourceItems | None, recipe: Recipe
) -> Candidate:
    """Pass both datasets' items once through a source's frozen network.

    Args:
        knowledge: the source's network.
        items: N labelled items of the target.
        source: items that the network was trained on; None where they are not available.
        recipe: machine and normalisation of the target.
    """
    names = knowledge.class_names
    network = build(knowledge.backbone_spec, spec=recipe.spec, classes=max(1, len(names)), seed=0)
    transplant(network, knowledge, names or ("none",))
    network.to(recipe.machine.device)
    if knowledge.fixed_normal:
        recipe = replace(recipe, normal=knowledge.normal)
    features = _features(network, items.records, recipe)
    with torch.inference_mode():
        head = network.head(features.to(recipe.machine.device)).softmax(1).cpu()
    source_features = None
    if source is not None:
        rows = torch.from_numpy(spread(source.items.labels.numpy(), MAX_SOURCE_ITEMS))
        own = knowledge.normal if knowledge.fixed_normal else source.normal
        at_source = replace(recipe, normal=own)
        source_features = _features(network, source.items.records[rows], at_source).numpy()
    probabilities = head.numpy() if names else None
    return Candidate(knowledge.source, features.numpy(), source_features, probabilities, names)


def _features(network: Network, records: Records, recipe: Recipe) -> Tensor:
    return embed(network, records, 0, recipe, seed=0)[0].cpu()
