"""Selection without target labels: the arrays that validators read, and the choice.

Shapes: A arms, N items of the pool, M source items, K classes of the target, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.data.items import PoolItems, SourceItems, spread
from transfer.data.storage.tensor_store import Records
from transfer.metrics import calibration
from transfer.models.network import Network
from transfer.selection import validator
from transfer.selection.validator import CandidateOutputs
from transfer.training.batches import embed
from transfer.training.recipe import Recipe

FILE = "label_free.npz"
MAX_SOURCE_ITEMS = 2000  # of each split

Arrays = dict[str, NDArray[Any]]


def collect_outputs(
    network: Network,
    recipe: Recipe,
    pool: PoolItems,
    train_items: SourceItems,
    validation_items: SourceItems,
    class_names: Sequence[str],
) -> Arrays:
    """The arrays of `CandidateOutputs` for a trained network, except its peers.

    Args:
        network: classifies into the target's classes.
        recipe: with the normalisation of the target's items; the source's items are standardised
            by their own statistics.
        pool: the target's items.
        train_items: items of the source's training split.
        validation_items: items of the source's validation split.
        class_names: K names; source items of other classes are left out.
    """
    source_recipe = replace(recipe, normal=validation_items.normal)
    features, logits = _answers(network, pool.records, recipe)
    labels, images = _shared(validation_items, class_names)
    source_features, source_logits = _answers(network, images, source_recipe)
    _, trained_on = _shared(train_items, class_names)
    return {
        "logits": logits,
        "features": features,
        "source_logits": source_logits,
        "source_labels": labels,
        "source_features": source_features,
        "train_features": _answers(network, trained_on, source_recipe)[0],
    }


def _answers(
    network: Network, records: Records, recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, D) and class scores (N, K) of items without augmentation."""
    features = embed(network, records, 0, recipe, seed=0)[0]
    with torch.inference_mode():
        return features.cpu().numpy(), network.head(features).cpu().numpy()


def _shared(source: SourceItems, class_names: Sequence[str]) -> tuple[NDArray[np.int64], Tensor]:
    """Labels in the target's classes, and inputs, of at most `MAX_SOURCE_ITEMS` items of shared
    classes."""
    rows = {i: class_names.index(n) for i, n in enumerate(source.class_names) if n in class_names}
    labels = source.items.labels.numpy()
    kept = np.flatnonzero(np.isin(labels, list(rows)))
    kept = kept[spread(labels[kept], MAX_SOURCE_ITEMS)]
    target_labels = np.array([rows[label] for label in labels[kept].tolist()], np.int64)
    return target_labels, source.items.records[torch.from_numpy(kept)]


def save(arrays: Arrays, folder: Path) -> None:
    """Write the arrays of `collect_outputs` into a folder."""
    with (folder / FILE).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(folders: Sequence[Path]) -> list[CandidateOutputs]:
    """Outputs of stored arms for validators, each with all arms as its peers."""
    stored = []
    for folder in folders:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            stored.append({name: arrays[name] for name in arrays.files})
    peers = np.stack([calibration.softmax(arrays["logits"]) for arrays in stored])
    return [CandidateOutputs(**arrays, peers=peers) for arrays in stored]


@dataclass(frozen=True)
class Ranking:
    """Scores of groups of arms by a validator; arms of a group differ only in their seed."""

    weights: NDArray[np.float64]  # A: uniform over arms of the better half of groups
    scores: dict[str, float]
    """Mean score of each group that has an arm that has not collapsed; higher is better."""
    collapsed: dict[int, str]
    """Explanation by index of each arm that has collapsed; such arms have no weight."""


def rank(candidates: Sequence[CandidateOutputs], groups: Sequence[str], name: str) -> Ranking:
    """Choose the better half of the groups, by the mean score of their arms without collapse.

    Half of the groups are chosen, not one: without labels it is unknown how much better the first
    group is, and the average of several models is rarely worse than one of them. Where all arms
    have collapsed, all are ranked.

    Args:
        candidates: outputs of the A arms.
        groups: (A,) group of each arm.
        name: name of the validator.

    Raises:
        SettingsError: there is no such validator.
        CrosstrainError: the candidates do not fit together.
    """
    choice = validator.choose(candidates, name)
    usable = [i for i in range(len(groups)) if i not in choice.collapsed] or range(len(groups))
    scores = {
        group: float(np.mean([choice.scores[i] for i in usable if groups[i] == group]))
        for group in dict.fromkeys(groups[i] for i in usable)
    }
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    best = ranked[: (len(ranked) + 1) // 2]
    weights = np.array([float(groups[i] in best and i in usable) for i in range(len(groups))])
    return Ranking(weights / weights.sum(), scores, choice.collapsed)
