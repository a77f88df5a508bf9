"""Agreement of a model with the mean prediction of all candidates."""

from transfer.selection.validator import CandidateOutputs, Validator


def score(candidate: CandidateOutputs) -> float:
    """EnsV, ensemble-based validation (Hu et al., NeurIPS 2024 Datasets and Benchmarks).

    score = 1/N sum_i [argmax p_i = argmax of the mean of p_i over all candidates], 0 to 1.

    It promises to avoid the worst candidate, since the average is better than that one, but not to
    find the best. Where most candidates collapse to the same class, it prefers them. A single
    candidate scores 1.
    """
    voted = candidate.peers.mean(0, dtype="float64").argmax(1)
    return float((candidate.logits.argmax(1) == voted).mean())


VALIDATOR = Validator("agreement", reads_source=False, score=score)
