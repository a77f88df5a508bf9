"""How certain a model is of each of the target's items, and how varied over all of them."""

from transfer.selection.validator import Seen, Validator, mean_entropy


def score(seen: Seen) -> float:
    """Information maximisation (Shi and Sha, ICML 2012; as a validator: Musgrave et al. 2022).

    score = H(1/N sum_i p_i) - 1/N sum_i H(p_i), the mutual information of item and class, in nats:
    0 to log K.

    A model that collapses or knows nothing scores 0. A target of few classes costs a good model
    part of its score, and it does not see that a model is certain, varied and wrong.
    """
    from scipy.special import entr

    varied = float(entr(seen.probabilities.mean(0)).sum())
    return varied - mean_entropy(seen.log_probabilities)


VALIDATOR = Validator("infomax", reads_source=False, score=score)
