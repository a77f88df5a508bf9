"""Density of the clusters that a model forms of the target's items."""

import numpy as np

from transfer.selection.validator import CandidateOutputs, Floats, Validator

TEMPERATURE = 0.05
ROWS = 256
"""Items whose similarities to all N are in memory at a time."""


def score(candidate: CandidateOutputs) -> float:
    """Soft neighbourhood density (Saito et al., ICCV 2021).

    s_ij = <u_i, u_j> of the softmax outputs u, scaled to unit length; q_ij is the softmax over
    j != i of s_ij / 0.05. score = 1/N sum_i H(q_i), in nats: 0 to log(N - 1); 0 for one item.

    It promises that a model with items in dense clusters is better than one that scatters them.
    It prefers collapse: where all items have the same prediction, confident or not, each item is a
    neighbour of every other and the score is the highest possible. Memory: 256 x N numbers at a
    time.
    """
    if len(candidate.logits) == 1:
        return 0.0
    units = candidate.probabilities / np.linalg.norm(candidate.probabilities, axis=1, keepdims=True)
    starts = range(0, len(units), ROWS)
    return sum(float(_entropies(units, start).sum()) for start in starts) / len(units)


def _entropies(units: Floats, start: int) -> Floats:
    """Entropy of the neighbourhoods of ROWS items from start on."""
    similarity = (units[start : start + ROWS] @ units.T - 1) / TEMPERATURE  # rows x N, -20 to 0
    weights = np.exp(similarity)
    own = np.arange(len(similarity))
    weights[own, start + own] = 0
    total = weights.sum(1)
    entropies: Floats = np.log(total) - np.einsum("ij,ij->i", weights, similarity) / total
    return entropies


VALIDATOR = Validator("snd", reads_source=False, score=score)
