"""Choosing where no item of the target has a label: what the validators read, and the choice.

Shapes: A arms, N pictures of the pool, M source items, K classes of the target, D features.
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
from transfer.selection.validator import Seen
from transfer.training.batches import embed
from transfer.training.recipe import Recipe

FILE = "label_free.npz"
MOST = 2000  # source items of each split that are looked at

Arrays = dict[str, NDArray[Any]]


def observe(
    network: Network,
    recipe: Recipe,
    pool: PoolItems,
    learned: SourceItems,
    held: SourceItems,
    class_names: Sequence[str],
) -> Arrays:
    """What `Seen` holds of a finished network, but for its peers.

    Args:
        network: for the target's classes.
        recipe: as the target's items were standardised; the source's go by their own
            statistics.
        pool: the target's items.
        learned: items of the source's training split.
        held: items of its validation split.
        class_names: K names; source items of other classes are left out.
    """
    at_source = replace(recipe, normal=held.normal)
    features, logits = _answers(network, pool.records, recipe)
    labels, images = _shared(held, class_names)
    source_features, source_logits = _answers(network, images, at_source)
    _, trained_on = _shared(learned, class_names)
    return {
        "logits": logits,
        "features": features,
        "source_logits": source_logits,
        "source_labels": labels,
        "source_features": source_features,
        "train_features": _answers(network, trained_on, at_source)[0],
    }


def _answers(
    network: Network, records: Records, recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, D) and class scores (N, K) of items as they are."""
    features = embed(network, records, 0, recipe, seed=0)[0]
    with torch.inference_mode():
        return features.cpu().numpy(), network.head(features).cpu().numpy()


def _shared(source: SourceItems, class_names: Sequence[str]) -> tuple[NDArray[np.int64], Tensor]:
    """Labels in the target's classes, and records, of at most `MOST` items of shared classes."""
    rows = {i: class_names.index(n) for i, n in enumerate(source.class_names) if n in class_names}
    labels = source.items.labels.numpy()
    kept = np.flatnonzero(np.isin(labels, list(rows)))
    kept = kept[spread(labels[kept], MOST)]
    told = np.array([rows[label] for label in labels[kept].tolist()], np.int64)
    return told, source.items.records[torch.from_numpy(kept)]


def save(arrays: Arrays, folder: Path) -> None:
    """Write what `observe` gave."""
    with (folder / FILE).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(folders: Sequence[Path]) -> list[Seen]:
    """What validators may read of stored arms, each among its peers."""
    stored = []
    for folder in folders:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            stored.append({name: arrays[name] for name in arrays.files})
    peers = np.stack([calibration.softmax(arrays["logits"]) for arrays in stored])
    return [Seen(**arrays, peers=peers) for arrays in stored]


@dataclass(frozen=True)
class Ranking:
    """What a validator says of groups of arms (those that differ by their seed alone)."""

    weights: NDArray[np.float64]  # A: uniform over the sound arms of the better half of the groups
    scores: dict[str, float]
    """Mean score of each group that has a sound arm, higher is better."""
    collapsed: dict[int, str]
    """Why, by number of the arms that have collapsed: they count for nothing."""


def rank(candidates: Sequence[Seen], groups: Sequence[str], name: str) -> Ranking:
    """Choose the better half of the groups, by the mean score of their sound arms.

    Half and not one, because without a label nothing can tell how much better the first is, and
    the mean of several sound models is seldom worse than one of them.

    Args:
        candidates: the arms.
        groups: (A,) what each arm belongs to.
        name: of the validator.

    Raises:
        SettingsError: there is no such validator.
        CrosstrainError: the candidates do not fit together.
    """
    found = validator.choose(candidates, name)
    sound = [i for i in range(len(groups)) if i not in found.collapsed] or range(len(groups))
    scores = {
        group: float(np.mean([found.scores[i] for i in sound if groups[i] == group]))
        for group in dict.fromkeys(groups[i] for i in sound)
    }
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    best = ranked[: (len(ranked) + 1) // 2]
    weights = np.array([float(groups[i] in best and i in sound) for i in range(len(groups))])
    return Ranking(weights / weights.sum(), scores, found.collapsed)
