"""Components and head against pipelines of scikit-learn and NumPy's eigenvalues."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.transfer import tiny
from transfer.methods.building_blocks.closed_form_heads import Rows, frozen
from transfer.methods.frozen_features.pca import PrincipalComponents, projection


def trained(method, seen):
    trainer = tiny.trainer(method, seen, tiny.recipe(seen))
    network, _ = frozen(trainer.job)
    return trainer.train(), Rows.of(trainer.job, network, method.views)


def odds(network, features):
    with torch.inference_mode():
        return network.head(torch.from_numpy(features).float()).double().softmax(1).numpy()


@pytest.mark.parametrize("explained", [0.5, 0.9])
def test_its_probabilities_are_those_of_a_pipeline(explained):
    method = PrincipalComponents(views=2, explained=explained, strengths=(0.2,))
    result, rows = trained(method, tiny.items())
    parts = StandardScaler(), PCA(explained), LogisticRegression(C=0.1, tol=1e-8, max_iter=2000)
    pipeline = make_pipeline(*parts).fit(rows.features, rows.labels)
    expected = pipeline.predict_proba(rows.features)
    np.testing.assert_allclose(odds(result.network, rows.features), expected, atol=1e-4)
    assert result.notes == {"C": 0.2, "components": pipeline[1].n_components_}


@pytest.mark.parametrize("explained", [0.3, 0.7, 0.99])
def test_the_fewest_components_that_explain_the_share_are_kept(explained):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    rows = Rows(x, np.arange(40) % 3, np.arange(40).astype(str), 3, 1)
    values = np.sort(np.linalg.eigvalsh(np.corrcoef(x.T)))[::-1]
    expected = int(np.argmax(values.cumsum() / values.sum() > explained)) + 1
    found = projection(rows, explained)
    assert found.weight.shape == (expected, 6)
    np.testing.assert_allclose(found(x).var(0), values[:expected], rtol=1e-8)
    np.testing.assert_allclose(found(x).mean(0), 0, atol=1e-9)


def test_features_that_never_vary_are_one_component_of_zeros():
    rows = Rows(np.full((6, 4), 3.0), np.arange(6) % 3, np.arange(6).astype(str), 3, 1)
    found = projection(rows, 0.9)
    np.testing.assert_array_equal(found(rows.features), np.zeros((6, 1)))


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1], [0, 0, 2]])
def test_few_items_of_few_classes_make_a_finite_head(labels):
    seen = replace(tiny.items(3), labels=torch.tensor(labels))
    result, rows = trained(PrincipalComponents(views=2), seen)
    found = odds(result.network, rows.features)
    assert np.isfinite(found).all()
    assert set(found.argmax(1)) <= set(labels)
