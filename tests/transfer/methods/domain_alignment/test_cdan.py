"""What the discriminator sees and how items are weighed, against NumPy; its special cases."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from tests.transfer import domains, tiny
from transfer.methods.domain_alignment.cdan import Cdan
from transfer.methods.domain_alignment.dann import Dann


def judged(ready, joint):
    """A discriminator's chance that each of N items is of the source."""
    w, b, v, c = (p.detach().double().numpy() for p in ready.helpers["discriminator"].parameters())
    return 1 / (1 + np.exp(-(np.maximum(joint @ w.T + b, 0) @ v[0] + c[0])))


def predicted(ready, features, shared):
    weight, bias = (p.detach().double().numpy() for p in ready.network.head.parameters())
    return softmax((features @ weight.T + bias)[:, shared], axis=1)


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize(
    ("source", "shared"), [(("corylus", "fagus", "acer"), [0, 2]), (tiny.CLASSES, [0, 1, 2])]
)
def test_the_term_is_that_of_the_paper(conditioned, source, shared):
    method = Cdan(entropy=conditioned)
    ready = domains.ready(method, source)
    batch = domains.batch(classes=3)
    total = 0.0
    for features, is_source in zip(domains.features(ready, batch), (True, False), strict=True):
        p = predicted(ready, features, shared)
        joint = np.stack([np.outer(q, f).ravel() for q, f in zip(p, features, strict=True)])
        chance = judged(ready, joint) if is_source else 1 - judged(ready, joint)
        weights = 1 + np.exp(-entropy(p, axis=1)) if conditioned else np.ones(len(p))
        total += (weights * -np.log(chance)).sum() / weights.sum() / 2
    found = method.loss(ready, batch, 0.4)
    assert float(found["domain"].detach()) == pytest.approx(total, rel=1e-4)
    assert set(found) == {"cross_entropy", "source", "domain"}


@pytest.mark.parametrize("source", [("fagus", "salix"), ("betula", "fagus")])
def test_below_two_shared_classes_it_is_dann(source):
    batch = domains.batch()
    one, other = (
        method.loss(domains.ready(method, source), batch, 0.4)["domain"]
        for method in (Cdan(), Dann())
    )
    assert float(one.detach()) == pytest.approx(float(other.detach()), rel=1e-6)


def test_predictions_are_held_constant():
    method = Cdan()
    ready = domains.ready(method, tiny.CLASSES)
    method.loss(ready, domains.batch(classes=3), 0.4)["domain"].backward()
    assert ready.network.head.weight.grad is None
    assert ready.network.backbone.stem[0].weight.grad.abs().sum() > 0


def test_without_labels_no_term_reads_them():
    method = Cdan()
    terms = method.loss(domains.ready(method), domains.batch(labelled=0), 0.5)
    assert set(terms) == {"source", "domain"}
