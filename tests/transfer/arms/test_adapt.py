"""An arm is judged on what its networks did not see, and stored as a model that answers alike."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.arms import adapt
from transfer.arms.adapt import AdaptSettings
from transfer.arms.trainer import Trainer
from transfer.core.errors import ModelFileError
from transfer.data.splits import folds
from transfer.methods.baselines.scratch import Scratch
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.methods.frozen_features.linear_probe import LinearProbe
from transfer.metrics import calibration
from transfer.models import checkpoint, predictor
from transfer.selection.ensemble import combine
from transfer.training.batches import logits

SEEN = tiny.items()
RECIPE = tiny.recipe(SEEN, steps=6)


def arm(items=SEEN, n_folds=3, seed=1, method=None, name="scratch", validation=None, **kwargs):
    target = tiny.target(items, n_folds, validation)
    method = method or Scratch()
    return adapt.adapt(name, method, [tiny.knowledge()], target, RECIPE, seed=seed, **kwargs)


def fold_of(items=SEEN, n_folds=3, seed=1):
    return folds.assign(items.labels.numpy(), items.groups.tolist(), n_folds, seed)


@pytest.fixture(scope="module")
def three():
    return arm()


# out of fold


def test_every_item_is_scored_by_the_network_of_its_fold(three):
    assert three.judged is SEEN and three.scores.shape == (24, 3)
    fold = fold_of()
    assert sorted(set(fold)) == [0, 1, 2]
    for i, network in enumerate(three.networks):
        rows = torch.from_numpy(fold == i)
        assert torch.equal(three.scores[rows], logits(network, SEEN.records[rows], RECIPE))


def test_an_item_leaves_no_trace_in_the_network_that_scores_it(three):
    """Change one picture: only the networks that do not score it may differ."""
    images = SEEN.records.clone()
    images[5] = 255 - images[5]
    changed = arm(replace(SEEN, records=images))
    own = fold_of()[5]
    for i, (before, after) in enumerate(zip(three.networks, changed.networks, strict=True)):
        assert tiny.same(before.state_dict(), after.state_dict()) == (i == own)


def test_a_group_is_not_cut():
    """Copies of one picture in one group meet the same network: they get the same scores."""
    images, labels = tiny.pictures(12)
    groups = [f"g{i}" for i in range(12)]
    twice = tiny.items(24, groups=groups * 2)
    twice = replace(
        twice,
        records=torch.from_numpy(np.concatenate([images, images])),
        labels=torch.from_numpy(np.concatenate([labels, labels])),
    )
    scores = arm(twice).scores
    torch.testing.assert_close(scores[:12], scores[12:], rtol=1e-5, atol=1e-6)
    assert np.array_equal(*np.split(fold_of(twice), 2))


def test_folds_have_weights_and_batches_of_their_own(three):
    states = [network.state_dict() for network in three.networks]
    assert not any(tiny.same(states[0], other) for other in states[1:])
    assert len(three.histories) == 3
    assert all(history.step[-1] == 6 for history in three.histories)


def test_one_seed_one_arm_another_seed_another(three):
    again, other = arm(), arm(seed=2)
    assert torch.equal(three.scores, again.scores)
    assert not torch.equal(three.scores, other.scores)
    assert not np.array_equal(fold_of(), fold_of(seed=2))


def test_arms_trained_at_once_are_those_trained_in_turn():
    methods = {"scratch": Scratch(), "fine_tune": FineTune(), "linear_probe": LinearProbe()}

    def train(name):
        return arm(n_folds=2, method=methods[name], name=name).scores

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(train, methods))
    for name, scores in zip(methods, together, strict=True):
        assert torch.equal(scores, train(name))


def test_with_many_labels_an_arm_is_one_network_judged_on_validation():
    validation = tiny.items(10, seed=1)
    one = arm(n_folds=0, validation=validation)
    assert len(one.networks) == 1 and one.judged is validation
    assert torch.equal(one.scores, logits(one.networks[0], validation.records, RECIPE))
    images = validation.records.flip(0)
    other = arm(n_folds=0, validation=replace(validation, records=images))
    assert tiny.same(one.networks[0].state_dict(), other.networks[0].state_dict())


def test_all_labels_are_used_when_validation_selects():
    validation = tiny.items(10, seed=1)
    one = arm(n_folds=0, validation=validation)
    images = SEEN.records.clone()
    images[23] = 0
    other = arm(replace(SEEN, records=images), n_folds=0, validation=validation)
    assert not tiny.same(one.networks[0].state_dict(), other.networks[0].state_dict())


class Nosy(Scratch):
    """Would use a source if it were handed one."""

    def prepare(self, network, knowledge, class_names):
        assert knowledge is None
        return super().prepare(network, knowledge, class_names)


def test_a_method_without_a_source_is_not_handed_one(three):
    assert torch.equal(three.scores, arm(method=Nosy()).scores)
    assert {t.action for t in three.transfers} == {"reinitialised"}


def test_each_network_starts_from_weights_of_its_own():
    still = arm(method=Scratch(learning_rate=1e-12), seed=5)
    for fold, network in enumerate(still.networks):
        start = tiny.network(seed=5000 + fold)
        torch.testing.assert_close(network.head.weight, start.head.weight, atol=1e-6, rtol=0)


def test_a_committee_on_one_frozen_backbone_is_one_network_of_the_mean_scores():
    method, given = LinearProbe(), tiny.knowledge().state
    probe = arm(method=method, name="linear_probe")
    (network,) = probe.networks
    backbone_spec = {f"backbone.{k}": v for k, v in network.backbone.state_dict().items()}
    assert tiny.same(backbone_spec, {k: v for k, v in given.items() if k in backbone_spec})
    scores = logits(network, SEEN.records, RECIPE)
    heads = [logits(one, SEEN.records, RECIPE) for one in probes(method)]
    torch.testing.assert_close(scores, torch.stack(heads).mean(0), rtol=1e-4, atol=1e-4)


def probes(method):
    """The networks of the folds, before they are merged."""
    target = tiny.target(SEEN, 3)
    return [
        Trainer(
            method, [tiny.knowledge()], target, RECIPE, 1000 + fold, fold_of() != fold, None, None
        )
        .train()
        .network
        for fold in range(3)
    ]


def test_progress_counts_over_all_folds():
    calls = []
    recipe = tiny.recipe(SEEN, steps=50, batch_size=2)
    target, on_step = tiny.target(SEEN, 2), lambda *s: calls.append(s)
    adapt.adapt("scratch", Scratch(), [], target, recipe, seed=0, on_step=on_step)
    assert calls == [(step, 100) for step in range(1, 101)]


# files


def saved(made, folder, n_folds=3):
    folder.mkdir()
    adapt.save(made, tiny.target(SEEN, n_folds), folder)
    return folder


@pytest.fixture(scope="module")
def stored(three, tmp_path_factory):
    return saved(three, tmp_path_factory.mktemp("arms") / "scratch")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    made = arm(method=FineTune(), name="fine_tune", seed=4)
    return saved(made, tmp_path_factory.mktemp("arms") / "tuned")


def test_a_stored_arm_gives_the_logits_of_its_networks_exactly(three, stored):
    model = predictor.load(stored)
    fresh = tiny.items(30, seed=8).records
    (networks,) = model.networks
    for ours, theirs in zip(three.networks, networks, strict=True):
        with torch.no_grad():
            found = predictor.committee_logits(
                [theirs], fresh, model.card.members[0].normal, model.card.spec
            )
        assert torch.equal(found, logits(ours, fresh, RECIPE))
    mean = torch.stack([logits(n, fresh, RECIPE) for n in three.networks]).mean(0)
    assert torch.equal(model.member_logits(fresh)[0], mean)


def test_a_stored_single_network_gives_the_arms_own_scores(tmp_path):
    validation = tiny.items(10, seed=1)
    made = arm(n_folds=0, validation=validation)
    model = predictor.load(saved(made, tmp_path / "one", 0))
    assert torch.equal(model.member_logits(validation.records)[0], made.scores)


def test_the_scores_are_stored_beside_their_labels_and_ids(three, stored):
    with np.load(stored / "oof.npz", allow_pickle=False) as found:
        assert set(found.files) == {"logits", "labels", "ids"}
        assert found["logits"].dtype == np.float32 and found["labels"].dtype == np.int64
        assert np.array_equal(found["logits"], three.scores.numpy())
        assert np.array_equal(found["labels"], SEEN.labels.numpy())
        assert found["ids"].tolist() == SEEN.ids.tolist()


def test_the_card_says_what_the_arm_is(three, stored):
    card = predictor.load(stored).card
    (member,) = card.members
    assert (member.arm, member.weight, member.networks) == ("scratch/1", 1.0, 3)
    expected = calibration.fit_temperature(three.scores.numpy(), SEEN.labels.numpy())
    assert member.temperature == expected
    assert card.class_names == tiny.CLASSES and card.target == "hedge"
    assert (
        member.normal == RECIPE.normal
        and member.backbone_spec == tiny.BODY
        and card.spec.size == tiny.SIDE
    )


def test_curves_and_transfer_map_are_stored(three, tuned):
    curves = json.loads((tuned / "history.json").read_text())
    assert len(curves) == 3 and curves[0]["step"][-1] == 6
    rows = json.loads((tuned / "transfers.json").read_text())
    assert [row["tensor"] for row in rows] == list(three.networks[0].state_dict())
    assert {row["action"] for row in rows} == {"copied", "sliced"}


def test_storing_an_arm_twice_gives_the_same_bytes(three, stored, tmp_path):
    again = saved(three, tmp_path / "again")
    for path in stored.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_model_names_the_classes_it_was_taught(tmp_path):
    recipe = tiny.recipe(SEEN, steps=40, batch_size=12)
    target = tiny.target(SEEN, 2)
    made = adapt.adapt("scratch", Scratch(), [], target, recipe, seed=0)
    adapt.save(made, target, tmp_path)
    model, fresh = predictor.load(tmp_path), tiny.items(30, seed=9)
    guess = model.predict_arrays(fresh.records[:, 0].numpy()).argmax(1)
    named = np.array([model.class_names[k] for k in guess])
    true = np.array([tiny.CLASSES[k] for k in fresh.labels])
    assert (named == true).mean() > 0.9


# composition


@pytest.mark.parametrize("weights", [(0.25, 0.75), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_a_composed_model_is_the_weighted_sum_of_its_arms(stored, tuned, weights, tmp_path):
    arms, fresh = [stored, tuned], tiny.items(30, seed=8).records
    card = adapt.compose(
        arms,
        weights,
        tmp_path,
        names=("scratch/1", "fine_tune/oaks/4"),
        data={"hedge": "m" * 32},
        settings_digest="s" * 64,
    )
    parts = []
    for folder in arms:
        model = predictor.load(folder)
        scores = model.member_logits(fresh)[0].double().numpy()
        parts.append(calibration.softmax(scores / model.card.members[0].temperature))
    expected = combine(np.stack(parts), np.array(weights))
    model = predictor.load(tmp_path)
    np.testing.assert_allclose(model.predict_records(fresh.numpy()), expected, atol=1e-6)
    names = ("scratch/1", "fine_tune/oaks/4")  # as this run calls them, not as they were stored
    kept = [name for name, weight in zip(names, weights, strict=True) if weight]
    assert [member.arm for member in card.members] == kept
    assert model.card == card
    assert (card.data, card.settings_digest) == ({"hedge": "m" * 32}, "s" * 64)
    count = len(checkpoint.load_state(tmp_path))
    assert count == len(kept) * len(checkpoint.load_state(stored))


def test_composing_needs_a_weight_for_each_arm_and_readable_arms(stored, tmp_path):
    told = {"names": ["scratch/1"], "data": {}, "settings_digest": ""}
    with pytest.raises(ValueError, match="zip"):
        adapt.compose([stored], [0.5, 0.5], tmp_path, **told)
    with pytest.raises(ModelFileError):
        adapt.compose([tmp_path / "none"], [1.0], tmp_path, **told)


# settings


@pytest.mark.parametrize(
    ("told", "labelled", "expected"),
    [
        ({}, 999, 3),
        ({}, 1000, 0),
        ({"few": 10}, 100, 0),
        ({"folds": 0}, 10, 0),
        ({"folds": 5}, 9999, 5),
    ],
)
def test_folds_are_for_few_labels(told, labelled, expected):
    assert AdaptSettings(**told).folds_for(labelled) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ("fine_tun",)}, "no 'fine_tun'"),
        ({"methods": ("scratch",)}, "at least one method that uses the source"),
        ({"methods": ()}, "at least one method that uses the source"),
        ({"seeds": ()}, "one seed or more, all different"),
        ({"seeds": (1, 1)}, "one seed or more, all different"),
        ({"folds": 21}, "folds"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        AdaptSettings(**wrong)
