"""How often a model is right on held-out items of the source."""

from transfer.selection.validator import Seen, Validator


def score(seen: Seen) -> float:
    """Source validation accuracy, the baseline (in Musgrave, Belongie and Lim 2022, for one).

    score = 1/M sum_j [argmax of logits_j = label_j], 0 to 1.

    It promises the accuracy on the source, and nothing of the target: a model that adapts to the
    target at the source's expense scores lower, and one that collapses on the target alone does
    not.
    """
    return float((seen.source_logits.argmax(1) == seen.source_labels).mean())


VALIDATOR = Validator("source_accuracy", reads_source=True, score=score)
