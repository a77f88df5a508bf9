"""Accuracy of a model on held-out items of the source."""

from transfer.selection.validator import CandidateOutputs, Validator


def score(candidate: CandidateOutputs) -> float:
    """Source validation accuracy, a baseline (for example in Musgrave, Belongie and Lim 2022).

    score = 1/M sum_j [argmax of logits_j = label_j], 0 to 1.

    It promises the accuracy on the source and nothing about the target: a model that adapts to the
    target and becomes worse on the source scores lower, and a model that collapses on the target
    only does not.
    """
    return float((candidate.source_logits.argmax(1) == candidate.source_labels).mean())


VALIDATOR = Validator("source_accuracy", reads_source=True, score=score)
