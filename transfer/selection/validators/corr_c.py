"""Class correlation of a model's predictions: low confusion of classes, and their even use."""

import numpy as np

from transfer.selection.validator import CandidateOutputs, Validator


def score(candidate: CandidateOutputs) -> float:
    """SoftmaxCorr, also called Corr-C (Tu, Deng, Gedeon and Zheng 2023; extended in TMLR 2024).

    C = P^T P / N of the probabilities P (N x K), and score = cos(C, I) =
    trace(C) / (sqrt(K) ||C||_F), 1/sqrt(K) to 1.

    This is the version of 2023, whose reference is the identity matrix: it promises that confident
    and evenly distributed predictions are better, so a good model scores lower on a target of
    imbalanced classes. A model that collapses, or whose predictions are all uniform, scores
    1/sqrt(K).
    """
    correlation = candidate.probabilities.T @ candidate.probabilities  # K x K; its scale cancels
    return float(np.trace(correlation) / (np.sqrt(len(correlation)) * np.linalg.norm(correlation)))


VALIDATOR = Validator("corr_c", reads_source=False, score=score)
