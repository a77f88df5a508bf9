"""The discrepancy's term against NumPy and SciPy, and that it draws domains together."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from tests.transfer import domains
from transfer.methods.domain_alignment.mmd import Mmd


def unbiased(source, target, multiples):
    b = (pdist(np.concatenate([source, target])) ** 2).mean()

    def k(x, y):
        return np.mean([np.exp(-(cdist(x, y) ** 2) / (g * b)) for g in multiples], axis=0)

    def within(x):
        return k(x, x)[~np.eye(len(x), dtype=bool)].mean()

    return within(source) + within(target) - 2 * k(source, target).mean()


def test_the_term_is_the_ramped_unbiased_estimate():
    method = Mmd(strength=3.0, multiples=(0.5, 2.0))
    ready, batch = domains.ready(method), domains.batch()
    source, target = domains.features(ready, batch)
    expected = 3 * np.tanh(5 * 0.4) * unbiased(source, target, (0.5, 2.0))
    found = method.loss(ready, batch, 0.4)
    assert float(found["mmd"].detach()) == pytest.approx(expected, rel=1e-3)
    assert set(found) == {"cross_entropy", "source", "mmd"}


def test_it_starts_without_any_alignment():
    method = Mmd()
    assert float(method.loss(domains.ready(method), domains.batch(), 0.0)["mmd"].detach()) == 0


def test_the_domains_end_nearer_to_one_another():
    near, far = (
        unbiased(*domains.drawn(Mmd(strength=s), domains.marked())[1:], (1.0,)) for s in (10.0, 0.0)
    )
    assert near < 0.5 * far


def test_without_labels_no_term_reads_them():
    method = Mmd()
    terms = method.loss(domains.ready(method), domains.batch(labelled=0), 0.5)
    assert set(terms) == {"source", "mmd"}


@pytest.mark.parametrize("multiples", [(), (1.0, 0.0), (-1.0,)])
def test_a_kernel_without_width_is_refused(multiples):
    with pytest.raises(ValueError, match="expected one width or more, all above 0"):
        Mmd(multiples=multiples)
