"""How little a model confuses classes, and how evenly it uses them."""

import numpy as np

from transfer.selection.validator import Seen, Validator


def score(seen: Seen) -> float:
    """SoftmaxCorr, also called Corr-C (Tu, Deng, Gedeon and Zheng 2023; extended in TMLR 2024).

    C = P^T P / N of the probabilities P (N x K), and score = cos(C, I) =
    trace(C) / (sqrt(K) ||C||_F), 1/sqrt(K) to 1.

    This is the version of 2023, whose reference is the identity: it promises that certain and
    evenly spread predictions are better, and so marks down a good model on a target of uneven
    classes. A model that collapses or knows nothing scores 1/sqrt(K).
    """
    shared = seen.probabilities.T @ seen.probabilities  # K x K; its scale cancels
    return float(np.trace(shared) / (np.sqrt(len(shared)) * np.linalg.norm(shared)))


VALIDATOR = Validator("corr_c", reads_source=False, score=score)
