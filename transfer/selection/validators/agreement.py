"""How far a model agrees with all candidates together."""

from transfer.selection.validator import Seen, Validator


def score(seen: Seen) -> float:
    """EnsV, ensemble-based validation (Hu et al., NeurIPS 2024 Datasets and Benchmarks).

    score = 1/N sum_i [argmax p_i = argmax of the mean of p_i over all candidates], 0 to 1.

    It promises to pass over the worst candidate, since the average is better than that, and not to
    find the best. Where most candidates collapse alike it prefers them; alone, a model scores 1.
    """
    voted = seen.peers.mean(0, dtype="float64").argmax(1)
    return float((seen.logits.argmax(1) == voted).mean())


VALIDATOR = Validator("agreement", reads_source=False, score=score)
