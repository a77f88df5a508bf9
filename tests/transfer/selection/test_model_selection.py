"""Validation alone chooses the model, the model of each source, and the model without it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tests.transfer import stored
from transfer.core.errors import CrosstrainError
from transfer.metrics import classification
from transfer.metrics.calibration import fit_temperature
from transfer.selection import model_selection
from transfer.selection.model_selection import choose, validation_losses, validation_probabilities

ANY = "agreement"  # a validator; not used where there are labels


def arms(root, shares, **changes):
    """Two seeds of each: {label: (share right, sources)}; ``changes`` by label."""
    return [
        stored.arm(
            root,
            label.split("/")[0],
            stored.logits(right, seed=10 * number + seed),
            seed=seed,
            sources=sources,
            label=label,
            **changes.get(label, {}),
        )
        for number, (label, (right, sources)) in enumerate(shares.items())
        for seed in (0, 1)
    ]


def members(files, mix):
    """Groups of the arms in a mix."""
    return {arm.group for arm, weight in zip(files, mix.weights, strict=True) if weight > 0}


TWO = {
    "scratch": (0.3, ()),
    "fine_tune/oaks": (0.5, ("oaks",)),
    "linear_probe/oaks": (0.8, ("oaks",)),
    "fine_tune/noise": (0.2, ("noise",)),
    "linear_probe/noise": (0.4, ("noise",)),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two sources: oaks helps and noise does not."""
    files = arms(tmp_path_factory.mktemp("two"), TWO)
    return files, choose(files, ANY)


# predictions on validation items


def test_validation_probabilities_are_the_stored_scores_calibrated(tmp_path):
    scores = [stored.logits(0.6, seed=s) for s in (0, 1)]
    files = [
        stored.arm(tmp_path, "scratch", own, seed=s, temperature=t)
        for s, (own, t) in enumerate(zip(scores, (0.5, 3.0), strict=True))
    ]
    calibrated, labels = validation_probabilities(files)
    assert calibrated.shape == (2, 60, 3)
    assert np.array_equal(labels, stored.LABELS)
    for own, t, probabilities in zip(scores, (0.5, 3.0), calibrated, strict=True):
        np.testing.assert_allclose(probabilities, softmax(own / t, axis=1), rtol=1e-5)


def test_a_temperature_is_that_of_the_card(tmp_path):
    t = fit_temperature(stored.logits(0.5), stored.LABELS)
    file = stored.arm(tmp_path, "scratch", stored.logits(0.5), temperature=t)
    assert model_selection.temperature(file.folder) == t


def test_validation_losses_are_log_losses_of_scipy_in_nats(tmp_path):
    scores = [stored.logits(0.6, seed=s) for s in (0, 1)]
    files = [
        stored.arm(tmp_path, "scratch", own, seed=s, temperature=1.5)
        for s, own in enumerate(scores)
    ]
    arm_losses = validation_losses(files)
    assert arm_losses.shape == (2, 60)
    for own, losses in zip(scores, arm_losses, strict=True):
        logs = log_softmax(own.astype(float) / 1.5, axis=1)
        np.testing.assert_allclose(losses, -logs[np.arange(60), stored.LABELS], rtol=1e-5)


def test_a_loss_is_finite_where_an_arm_is_certain_and_wrong(tmp_path):
    scores = 1e4 * np.eye(3, dtype="f4")[(stored.LABELS + 1) % 3]
    losses = validation_losses([stored.arm(tmp_path, "scratch", scores)])
    np.testing.assert_allclose(losses, -np.log(classification.SMALLEST))


def test_arms_that_were_validated_on_other_items_cannot_be_compared(tmp_path):
    ids = np.arange(60).astype(str)
    first = stored.arm(tmp_path, "fine_tune", stored.logits(0.5), ids=ids)
    other = stored.arm(tmp_path, "scratch", stored.logits(0.5), ids=ids[::-1], seed=1)
    with pytest.raises(CrosstrainError, match="arm scratch/1 was validated on other items"):
        validation_probabilities([first, other])


# names


def test_an_arm_is_named_by_its_label_or_by_its_method(tmp_path):
    file = stored.arm(tmp_path, "fine_tune", stored.logits(0.5), seed=3)
    assert (file.group, file.name) == ("fine_tune", "fine_tune/3")
    file = replace(file, label="fine_tune/oaks")
    assert (file.group, file.name) == ("fine_tune/oaks", "fine_tune/oaks/3")


# the choice


@pytest.mark.parametrize("better", ["scratch", "fine_tune"])
def test_the_better_method_on_validation_is_preferred(tmp_path, better):
    shares = {"scratch": (0.1, ()), "fine_tune": (0.1, ("trees",))}
    files = arms(tmp_path, {**shares, better: (0.95, shares[better][1])})
    files = [files[i] for i in (2, 0, 3, 1)]
    choice = choose(files, ANY)
    assert members(files, choice.best) == {better}
    assert choice.best.scheme in choice.scores
    assert members(files, choice.source) == {"fine_tune"}
    assert choice.source.weights.sum() == pytest.approx(1)
    assert (choice.source.weights[[1, 3]] == 0).all()


def test_every_mix_is_a_sum_of_weights_that_is_1(two):
    _, choice = two
    mixes = [choice.best, choice.baseline, choice.source]
    mixes += [*choice.by_source.values(), *choice.without.values()]
    for mix in mixes:
        assert mix.weights.shape == (10,)
        assert (mix.weights >= 0).all() and mix.weights.sum() == pytest.approx(1)


def test_choosing_twice_gives_the_same_bits_and_the_test_split_is_not_there(two):
    files, choice = two
    assert {p.name for f in files for p in f.folder.iterdir()} == {
        "card.json",
        "weights.safetensors",
        "notes.json",
        "oof.npz",
    }
    again = choose(files, ANY)
    assert np.array_equal(again.best.weights, choice.best.weights)
    assert again.scores == choice.scores
    for name, mix in choice.by_source.items():
        assert np.array_equal(again.by_source[name].weights, mix.weights)


def test_nothing_has_collapsed_where_items_are_labelled(two):
    assert two[1].collapsed == {}


# the baseline


def test_the_baseline_is_all_arms_from_scratch_equally(two):
    files, choice = two
    expected = [0.5 if arm.method == "scratch" else 0.0 for arm in files]
    assert choice.baseline.weights.tolist() == expected


def test_the_baseline_with_labels_is_scratch_alone_though_the_source_as_it_is_runs_too(tmp_path):
    shares = {"scratch": (0.3, ()), "source_only": (0.6, ("oaks",)), "fine_tune": (0.7, ("oaks",))}
    files = arms(tmp_path, shares)
    assert members(files, choose(files, ANY).baseline) == {"scratch"}


@pytest.mark.parametrize("lacking", ["baseline", "source"])
def test_a_choice_needs_a_baseline_and_a_source(tmp_path, lacking):
    shares = {"scratch": (0.3, ()), "fine_tune": (0.7, ("oaks",))}
    del shares["scratch" if lacking == "baseline" else "fine_tune"]
    with pytest.raises(CrosstrainError, match="arms that use a source, and scratch"):
        choose(arms(tmp_path, shares), ANY)


# the models of a source, and the models without it


def test_each_source_is_represented_by_arms_that_use_it_alone(two):
    files, choice = two
    assert list(choice.by_source) == ["oaks", "noise"]
    assert members(files, choice.by_source["oaks"]) <= {"fine_tune/oaks", "linear_probe/oaks"}
    assert members(files, choice.by_source["noise"]) <= {"fine_tune/noise", "linear_probe/noise"}
    assert "linear_probe/oaks" in members(files, choice.by_source["oaks"])


def test_a_source_is_not_stood_for_by_an_arm_that_uses_others_too(tmp_path):
    files = arms(tmp_path, TWO | {"fusion": (0.99, ("oaks", "noise"))})
    choice = choose(files, ANY)
    assert members(files, choice.best) == members(files, choice.source) == {"fusion"}
    for name in ("oaks", "noise"):
        assert "fusion" not in members(files, choice.by_source[name])


def test_a_source_that_no_arm_uses_alone_is_represented_by_those_that_combine(tmp_path):
    shares = {
        "scratch": (0.9, ()),
        "fine_tune": (0.5, ("oaks",)),
        "fusion": (0.6, ("oaks", "noise")),
    }
    files = arms(tmp_path, shares)
    choice = choose(files, ANY)
    assert members(files, choice.by_source["noise"]) == {"fusion"}
    assert members(files, choice.by_source["oaks"]) == {"fine_tune"}


def test_the_model_without_a_source_has_no_arm_of_it(tmp_path):
    files = arms(tmp_path, TWO | {"fusion": (0.99, ("oaks", "noise"))})
    choice = choose(files, ANY)
    barred = {"oaks": {"fusion"}, "noise": {"fusion"}}
    for name, groups in barred.items():
        groups |= {label for label in TWO if label.endswith(name)}
        assert not members(files, choice.without[name]) & groups
    assert members(files, choice.without["noise"]) == {"linear_probe/oaks"}


def test_the_model_without_all_sources_is_scratch(two):
    files, _ = two
    chooser = model_selection.chooser_for(files, ANY)
    assert members(
        files, model_selection.choose_among([not f.sources for f in files], chooser)
    ) == {"scratch"}


def test_the_model_without_a_source_has_no_backbone_that_learned_from_it_jointly(tmp_path):
    files = arms(tmp_path, TWO | {"l2_sp": (0.99, ("both",))})
    files = [replace(f, parts=("oaks", "noise")) if f.sources == ("both",) else f for f in files]
    choice = choose(files, ANY)
    assert members(files, choice.best) == {"l2_sp"}
    for name in ("oaks", "noise", "both"):
        assert "l2_sp" not in members(files, choice.without[name])
    assert members(files, choice.by_source["both"]) == {"l2_sp"}


def test_where_no_arm_does_without_a_source_there_is_no_choice_without_it(tmp_path):
    files = arms(tmp_path, TWO)[2:]
    chooser = model_selection.chooser_for(files, ANY)
    assert model_selection.choose_among([not file.sources for file in files], chooser) is None
    kept = model_selection.choose_among([not file.uses("noise") for file in files], chooser)
    assert members(files, kept) <= {"fine_tune/oaks", "linear_probe/oaks"}


def test_a_source_alone_is_the_choice_among_all_that_use_any(tmp_path):
    shares = {"scratch": (0.3, ()), "fine_tune": (0.5, ("oaks",)), "linear_probe": (0.6, ("oaks",))}
    files = arms(tmp_path, shares)
    choice = choose(files, ANY)
    assert choice.by_source["oaks"].scheme == choice.source.scheme
    assert np.array_equal(choice.by_source["oaks"].weights, choice.source.weights)
    assert members(files, choice.without["oaks"]) == {"scratch"}


# arms that were stopped


STOPPED = {"finalist": False}


def test_an_arm_that_was_stopped_is_not_chosen_however_good_it_is(tmp_path):
    shares = {"scratch": (0.3, ()), "fine_tune": (0.5, ("oaks",)), "l2_sp": (0.99, ("oaks",))}
    files = arms(tmp_path, shares, l2_sp=STOPPED)
    choice = choose(files, ANY)
    for mix in (choice.best, choice.source, choice.by_source["oaks"]):
        assert "l2_sp" not in members(files, mix)


def test_a_source_whose_arms_were_all_stopped_is_represented_by_them(tmp_path):
    files = arms(tmp_path, TWO, **{"fine_tune/noise": STOPPED, "linear_probe/noise": STOPPED})
    choice = choose(files, ANY)
    assert members(files, choice.by_source["noise"]) <= {"fine_tune/noise", "linear_probe/noise"}
    assert not members(files, choice.best) & {"fine_tune/noise", "linear_probe/noise"}
    assert choice.by_source["noise"].weights.sum() == pytest.approx(1)


def test_a_stopped_source_is_not_stood_for_by_a_finalist_that_uses_others_too(tmp_path):
    shares = {
        "scratch": (0.3, ()),
        "fine_tune/oaks": (0.8, ("oaks",)),
        "fine_tune/noise": (0.2, ("noise",)),
        "fusion": (0.9, ("oaks", "noise")),
    }
    files = arms(tmp_path, shares, **{"fine_tune/noise": STOPPED})
    assert members(files, choose(files, ANY).by_source["noise"]) == {"fine_tune/noise"}
