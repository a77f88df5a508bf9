"""Mean confidence of a model on the target's items, by the entropy of its predictions."""

from transfer.selection.validator import CandidateOutputs, Validator, mean_entropy


def score(candidate: CandidateOutputs) -> float:
    """Negative mean entropy of the predictions (Morerio, Cavazza and Murino, ICLR 2018).

    score = -1/N sum_i H(p_i), in nats: -log K to 0.

    It promises that a confident model is better than an uncertain one. It prefers collapse: a model
    that predicts one class with certainty for every item has the highest possible score. It does
    not detect that a model is confident and wrong.
    """
    return -mean_entropy(candidate.log_probabilities)


VALIDATOR = Validator("entropy", reads_source=False, score=score)
