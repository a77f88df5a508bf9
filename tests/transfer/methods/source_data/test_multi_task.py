"""Two heads on one backbone, and the balance of their losses against NumPy and its optimum."""

import numpy as np
import pytest
import torch

from tests.transfer import domains, tiny
from transfer.methods.building_blocks.shared_head import DomainFeatures
from transfer.methods.source_data.multi_task import MultiTask


def single(ready, batch):
    """The two cross-entropies, by NumPy."""
    found = DomainFeatures(ready.network, batch)
    head = ready.network.head
    target = domains.cross_entropies(head(found.target), batch.targets).mean()
    scores = ready.helpers["source_head"](found.source, head)
    return target, domains.cross_entropies(scores, batch.source.targets).mean()


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


@pytest.mark.parametrize("classes", [domains.SOURCE, tiny.CLASSES, ("fagus", "salix")])
def test_a_fixed_balance_is_a_weighted_sum(classes):
    method = MultiTask(source_weight=0.3)
    ready, batch = domains.ready(method, classes), domains.batch(classes=len(classes))
    target, source = single(ready, batch)
    found = values(method.loss(ready, batch, 0.0))
    assert found == pytest.approx({"cross_entropy": target, "source": 0.3 * source}, rel=1e-5)


def test_a_learned_balance_is_that_of_the_paper():
    method = MultiTask(balance="uncertainty", source_weight=0.3)
    ready, batch = domains.ready(method), domains.batch()
    target, source = single(ready, batch)
    s = ready.helpers["balance"].log_variance
    np.testing.assert_allclose(np.exp(-s.detach().numpy()), [1.0, 0.3], rtol=1e-6)
    with torch.no_grad():
        s.copy_(torch.tensor([0.7, -1.2]))
    found = values(method.loss(ready, batch, 0.0))
    expected = {
        "cross_entropy": target / np.exp(0.7),
        "source": source / np.exp(-1.2),
        "balance": np.log(np.sqrt(np.exp(0.7))) + np.log(np.sqrt(np.exp(-1.2))),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_learned_balance_settles_where_the_variance_is_twice_the_loss():
    """d/ds (exp(-s) L + s / 2) = 0 at exp(s) = 2 L."""
    method = MultiTask(balance="uncertainty")
    ready, batch = domains.ready(method), domains.batch()
    s = ready.helpers["balance"].log_variance
    with torch.no_grad():
        s.copy_(torch.tensor([np.log(2 * loss) for loss in single(ready, batch)]))
    sum(method.loss(ready, batch, 0.0).values()).backward()
    torch.testing.assert_close(s.grad, torch.zeros(2), atol=1e-5, rtol=0)


def test_a_learned_balance_is_trained_at_its_own_rate():
    method = MultiTask(balance="uncertainty", balance_rate=0.07)
    ready = domains.ready(method)
    s = ready.helpers["balance"].log_variance
    assert [rate for group, rate in ready.rates if group[0] is s] == [0.07]


def test_a_fixed_balance_has_nothing_to_learn():
    assert "balance" not in domains.ready(MultiTask()).helpers


def test_both_domains_are_learned_and_the_balance_with_them():
    """The source's classes in use: after training, the backbone and both heads serve both."""
    seen, source = tiny.items(), tiny.source()
    method = MultiTask(balance="uncertainty")
    ready, own, other = domains.drawn(method, source, labelled=24, steps=40)
    told, head = ready.helpers["source_head"], ready.network.head
    scores = told(torch.tensor(own).float(), head)
    assert (scores.argmax(1) == source.items.labels).float().mean() > 0.9
    assert (head(torch.tensor(other).float()).argmax(1) == seen.labels).float().mean() > 0.9
    assert (ready.helpers["balance"].log_variance.detach().abs() > 0.1).all()
