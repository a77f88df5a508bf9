"""The search finds a lower loss where there is one, stays within bounds, and never ends worse."""

import math

import pytest

from transfer.arms import hyperparameter_search
from transfer.methods.baselines.source_only import SourceOnly
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.methods.lookup import known

METHODS = known()


def valley(method):
    """Lowest at a learning rate of 6e-3 and a backbone rate of 0.3."""
    one = math.log(method.learning_rate / 6e-3) ** 2
    return one + math.log(method.backbone_rate / 0.3) ** 2


def test_it_walks_towards_the_valley():
    found = hyperparameter_search.search(FineTune(), valley, trials=40)
    assert found.loss < 0.3 * found.default_loss
    assert found.loss == pytest.approx(valley(found.method))
    assert found.tried == 40


def test_it_never_ends_worse_than_it_began():
    begin = FineTune(learning_rate=6e-3, backbone_rate=0.3)
    found = hyperparameter_search.search(begin, valley, trials=5)
    assert found.method == begin and found.loss == found.default_loss == pytest.approx(0)


def test_one_seed_one_search():
    one, two = (
        hyperparameter_search.search(FineTune(), valley, trials=6, seed=3) for _ in range(2)
    )
    assert one == two
    assert one != hyperparameter_search.search(FineTune(), valley, trials=6, seed=4)


def test_a_method_without_numbers_is_tried_once():
    calls = []
    found = hyperparameter_search.search(SourceOnly(), lambda m: calls.append(m) or 1.0, trials=9)
    assert len(calls) == 1 and found.tried == 0


@pytest.mark.parametrize("name", METHODS)
def test_both_ends_of_every_interval_are_settings_the_method_takes(name):
    method = METHODS[name]()
    for field, (low, high) in hyperparameter_search.space(method).items():
        assert 0 < low <= getattr(method, field) <= high
        for value in (low, high):
            METHODS[name](**{**method.model_dump(), field: value})
