"""How certain a model is of the target's items."""

from transfer.selection.validator import Seen, Validator, mean_entropy


def score(seen: Seen) -> float:
    """Negative mean entropy of the predictions (Morerio, Cavazza and Murino, ICLR 2018).

    score = -1/N sum_i H(p_i), in nats: -log K to 0.

    It promises that a certain model is better than an uncertain one. It loves collapse: a model
    that is certain of one class for every item has the highest score there is. Nor does it see
    that a model is certain and wrong.
    """
    return -mean_entropy(seen.log_probabilities)


VALIDATOR = Validator("entropy", reads_source=False, score=score)
