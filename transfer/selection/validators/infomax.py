"""Confidence of a model on each of the target's items, and diversity over all of them."""

from transfer.selection.validator import CandidateOutputs, Validator, mean_entropy


def score(candidate: CandidateOutputs) -> float:
    """Information maximisation (Shi and Sha, ICML 2012; as a validator: Musgrave et al. 2022).

    score = H(1/N sum_i p_i) - 1/N sum_i H(p_i), the mutual information of item and class, in nats:
    0 to log K.

    A model that collapses, or whose predictions are all uniform, scores 0. On a target of few
    classes a good model loses part of its score. The score does not detect that a model is
    confident, diverse and wrong.
    """
    from scipy.special import entr

    diversity = float(entr(candidate.probabilities.mean(0)).sum())
    return diversity - mean_entropy(candidate.log_probabilities)


VALIDATOR = Validator("infomax", reads_source=False, score=score)
