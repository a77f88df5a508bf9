"""CORAL's term against NumPy, and that it draws covariances together."""

import numpy as np
import pytest
import torch

from tests.transfer import domains
from transfer.methods.domain_alignment.coral import Coral


def test_the_term_is_the_ramped_distance_of_the_paper():
    method = Coral(strength=30.0)
    ready, batch = domains.ready(method), domains.batch()
    source, target = domains.features(ready, batch)
    gap = np.cov(source.T) - np.cov(target.T)
    d = source.shape[1]
    expected = 30 * np.tanh(5 * 0.4) * (gap**2).sum() / (4 * d**2)
    found = method.loss(ready, batch, 0.4)
    assert float(found["coral"].detach()) == pytest.approx(expected, rel=1e-3)
    assert set(found) == {"cross_entropy", "source", "coral"}


def test_it_starts_without_any_alignment():
    method = Coral()
    assert float(method.loss(domains.ready(method), domains.batch(), 0.0)["coral"].detach()) == 0


def test_the_covariances_end_nearer_to_one_another():
    def gap(method):
        _, source, target = domains.drawn(method, domains.marked())
        return ((np.cov(source.T) - np.cov(target.T)) ** 2).sum()

    assert gap(Coral(strength=300.0)) < 0.3 * gap(Coral(strength=0.0))


def test_without_labels_no_term_reads_them():
    method = Coral()
    terms = method.loss(domains.ready(method), domains.batch(labelled=0), 0.5)
    assert set(terms) == {"source", "coral"}
    assert all(torch.isfinite(term) for term in terms.values())
