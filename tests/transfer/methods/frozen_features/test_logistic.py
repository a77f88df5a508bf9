"""The head against a pipeline of scikit-learn, on the rows that it may see alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.transfer import tiny
from transfer.methods.building_blocks.closed_form_heads import Rows, frozen
from transfer.methods.frozen_features.logistic import Logistic


def trained(method, seen, **options):
    trainer = tiny.trainer(method, seen, tiny.recipe(seen), **options)
    network, _ = frozen(trainer.job)
    return trainer.train(), Rows.of(trainer.job, network, method.views)


def scores(network, features):
    with torch.inference_mode():
        return network.head(torch.from_numpy(features).float()).double().numpy()


def test_its_probabilities_are_those_of_standardisation_and_logistic_regression():
    result, rows = trained(Logistic(views=2, strengths=(0.02,)), tiny.items())
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    pipeline.fit(rows.features, rows.labels)
    odds = np.exp(scores(result.network, rows.features))
    expected = pipeline.predict_proba(rows.features)
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected, atol=1e-4)
    assert result.notes == {"C": 0.02}


def test_the_strength_is_one_of_those_given_and_the_backbone_stays_the_sources():
    result, _ = trained(Logistic(views=0, strengths=(1e-3, 0.1)), tiny.items())
    assert result.notes["C"] in (1e-3, 0.1)
    backbone_spec = {
        k: t for k, t in result.network.state_dict().items() if k.startswith("backbone.")
    }
    given = tiny.knowledge().state
    assert all(torch.equal(tensor, given[name]) for name, tensor in backbone_spec.items())


def test_a_class_that_a_fold_lacks_keeps_a_row_that_never_wins():
    seen = tiny.items(12)
    seen = replace(seen, labels=torch.tensor([0, 1] * 5 + [2, 2]))
    result, rows = trained(Logistic(views=2), seen, hidden=2)
    found = scores(result.network, rows.features)
    assert found.shape == (20, 3) and set(found.argmax(1)) <= {0, 1}


def test_training_twice_gives_the_same_bits():
    one, two = (trained(Logistic(views=2), tiny.items())[0].network for _ in range(2))
    assert tiny.same(one.state_dict(), two.state_dict())


def test_settings_that_could_not_choose_are_refused():
    with pytest.raises(ValueError, match="strengths"):
        Logistic(strengths=())
    with pytest.raises(ValueError, match="greater than 0"):
        Logistic(strengths=(0.0,))
