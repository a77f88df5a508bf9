"""The figures of an evaluation against scikit-learn, on arms that were trained for it."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.transfer import tiny
from transfer import adapt, calibrate, evaluate
from transfer.arrays import TestItems
from transfer.errors import CrosstrainError
from transfer.evaluate import ArmFiles, Choice, EvaluateSettings
from transfer.feed import logits
from transfer.method import known

SEEN = tiny.items(30)
RECIPE = tiny.recipe(SEEN, steps=5)
CHOICE = Choice(
    "weighted", np.array([0.1, 0.2, 0.3, 0.4]), {"best": 1.0}, "best", np.array([0, 0, 1.0, 0])
)


def hard_test_items():
    """Pictures of which some carry a wrong label, so that no figure is 0 or 1."""
    items = tiny.items(47, seed=5)
    labels = items.labels.clone()
    labels[::4] = (labels[::4] + 1) % 3
    return TestItems(items.images, labels, items.ids)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root, target = tmp_path_factory.mktemp("arms"), tiny.target(SEEN, 2)
    arms, made = [], []
    for name in ("scratch", "fine_tune"):
        for seed in (0, 1):
            arm = adapt.adapt(name, known()[name](), tiny.knowledge(), target, RECIPE, seed=seed)
            folder = root / f"{name}{seed}"
            folder.mkdir()
            adapt.save(arm, target, RECIPE, folder)
            arms.append(ArmFiles(name, seed, folder, 5, 1.5))
            made.append(arm)
    return arms, made


@pytest.fixture(scope="module")
def tested(trained):
    arms, _ = trained
    items = hard_test_items()
    return evaluate.test_probabilities(arms, items), items.labels.numpy()


def judge(trained, tested, **told):
    arms, _ = trained
    probabilities, labels = tested
    return evaluate.evaluate(
        arms,
        told.pop("choice", CHOICE),
        probabilities,
        labels,
        source="trees",
        target="hedge",
        class_names=tiny.CLASSES,
        labels_per_class=10,
        settings=EvaluateSettings(replicates=200, **told),
    )


@pytest.fixture(scope="module")
def found(trained, tested):
    return judge(trained, tested)


def test_test_probabilities_are_the_calibrated_scores_of_the_committees(trained, tested):
    _, made = trained
    items = hard_test_items()
    for arm, own in zip(made, tested[0], strict=True):
        mean = np.mean([logits(n, items.images, RECIPE).numpy() for n in arm.networks], 0)
        t = calibrate.fit_temperature(arm.scores.numpy(), SEEN.labels.numpy())
        np.testing.assert_allclose(own, calibrate.softmax(mean / t), atol=1e-6)


def test_validation_probabilities_are_those_out_of_fold(trained):
    arms, made = trained
    probabilities, labels = evaluate.validation_probabilities(arms)
    assert probabilities.shape == (4, 30, 3)
    assert np.array_equal(labels, SEEN.labels.numpy())
    for arm, own in zip(made, probabilities, strict=True):
        t = calibrate.fit_temperature(arm.scores.numpy(), labels)
        np.testing.assert_allclose(own, calibrate.softmax(arm.scores.numpy() / t))


def test_the_chosen_model_has_the_figures_of_scikit_learn(found, tested):
    probabilities, labels = tested
    mixed = np.tensordot(CHOICE.weights, probabilities, 1)
    guess, chosen = mixed.argmax(1), found.chosen
    assert chosen.accuracy == pytest.approx(sk.accuracy_score(labels, guess))
    assert chosen.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, guess))
    told = sk.precision_recall_fscore_support(labels, guess, average="macro", zero_division=0)
    assert (chosen.macro_precision, chosen.macro_recall, chosen.macro_f1) == pytest.approx(told[:3])
    assert chosen.log_loss == pytest.approx(sk.log_loss(labels, mixed))
    assert chosen.brier == pytest.approx(((mixed - np.eye(3)[labels]) ** 2).sum(1).mean())
    assert 0 <= chosen.low < chosen.accuracy < chosen.high <= 1
    assert chosen.members == ["scratch/0", "scratch/1", "fine_tune/0", "fine_tune/1"]
    assert chosen.weights == [0.1, 0.2, 0.3, 0.4]


def test_each_class_has_the_figures_of_scikit_learn(found, tested):
    probabilities, labels = tested
    guess = np.tensordot(CHOICE.weights, probabilities, 1).argmax(1)
    told = sk.precision_recall_fscore_support(labels, guess, zero_division=0)
    assert [row.name for row in found.classes] == list(tiny.CLASSES)
    for row, *expected in zip(found.classes, *told, strict=True):
        assert (row.precision, row.recall, row.f1, row.items) == pytest.approx(expected)
    assert found.confusion == sk.confusion_matrix(labels, guess).tolist()


def test_the_comparator_is_the_uniform_mix_of_scratch(found, tested):
    probabilities, labels = tested
    mixed = probabilities[:2].mean(0)
    assert found.scratch.accuracy == pytest.approx(sk.accuracy_score(labels, mixed.argmax(1)))
    singles = [sk.accuracy_score(labels, p.argmax(1)) for p in probabilities[:2]]
    assert found.scratch.single_mean == pytest.approx(np.mean(singles))


def test_gains_are_differences_of_the_metric(found, trained, tested):
    probabilities, labels = tested
    scratch = sk.accuracy_score(labels, probabilities[:2].mean(0).argmax(1))
    tuned = sk.accuracy_score(labels, probabilities[2].argmax(1))
    assert found.gain.point == pytest.approx(found.chosen.accuracy - scratch)
    (source,) = found.sources
    assert source.gain.point == pytest.approx(tuned - scratch)
    assert source.members == ["fine_tune/0"] and source.name == "trees"
    assert source.gain.low <= source.gain.point <= source.gain.high
    assert found.verdict == source.verdict
    balanced = judge(trained, tested, metric="balanced_accuracy")
    assert balanced.gain.metric == balanced.metric == "balanced_accuracy"
    expected = sk.balanced_accuracy_score(labels, probabilities[2].argmax(1))
    expected -= sk.balanced_accuracy_score(labels, probabilities[:2].mean(0).argmax(1))
    assert balanced.sources[0].gain.point == pytest.approx(expected)


def test_every_arm_is_listed_with_validation_and_test_apart(found, trained, tested):
    _, made = trained
    probabilities, labels = tested
    names = [("scratch", 0), ("scratch", 1), ("fine_tune", 0), ("fine_tune", 1)]
    assert [(row.method, row.seed) for row in found.arms] == names
    for row, arm, own, weight in zip(found.arms, made, probabilities, CHOICE.weights, strict=True):
        assert row.test == pytest.approx(sk.accuracy_score(labels, own.argmax(1)))
        judged = sk.accuracy_score(SEEN.labels.numpy(), arm.scores.numpy().argmax(1))
        assert row.validation == pytest.approx(judged)
        assert row.weight == weight and row.steps == 5 and row.seconds == 1.5
        assert row.uses_source == (row.method != "scratch")
        assert row.test_low <= row.test <= row.test_high


def test_the_reliability_bins_cover_every_item_once(found, tested):
    _, labels = tested
    assert sum(b.items for b in found.reliability) == len(labels) == found.test_items
    right = sum(b.items * b.accuracy for b in found.reliability)
    assert right == pytest.approx(found.chosen.accuracy * len(labels))
    gap = sum(b.items * abs(b.accuracy - b.confidence) for b in found.reliability) / len(labels)
    assert found.chosen.ece == pytest.approx(gap)


def test_the_same_inputs_give_the_same_bytes(found, trained, tested):
    assert judge(trained, tested).model_dump_json() == found.model_dump_json()


# choosing


def test_choosing_looks_at_validation_alone_and_the_source_model_uses_the_source(trained):
    arms, _ = trained
    choice = evaluate.choose(arms)
    assert choice.weights.sum() == pytest.approx(1)
    assert choice.source_weights.sum() == pytest.approx(1)
    assert (choice.source_weights[:2] == 0).all()
    assert choice.scheme in choice.scores


@pytest.mark.parametrize("better", ["scratch", "fine_tune"])
def test_the_better_method_on_validation_is_preferred(trained, tmp_path, better):
    arms, _ = trained
    labels, files = SEEN.labels.numpy(), []
    told = np.eye(3, dtype=np.float32)[labels] * 4
    for i, arm in enumerate([arms[2], arms[0], arms[3], arms[1]]):
        folder = tmp_path / str(i)
        folder.mkdir()
        scores = told if arm.method == better else -told
        (folder / "card.json").write_bytes((arm.folder / "card.json").read_bytes())
        np.savez(folder / "oof.npz", logits=scores, labels=labels, ids=SEEN.ids)
        files.append(replace(arm, folder=folder))
    choice = evaluate.choose(files)
    chosen = {file.method for file, w in zip(files, choice.weights, strict=True) if w}
    assert chosen == {better}
    assert choice.source_weights[[0, 2]].sum() == pytest.approx(1)
    assert (choice.source_weights[[1, 3]] == 0).all()


def test_arms_that_were_judged_on_other_items_cannot_be_compared(trained, tmp_path):
    arms, _ = trained
    (tmp_path / "card.json").write_bytes((arms[1].folder / "card.json").read_bytes())
    with np.load(arms[1].folder / "oof.npz") as told:
        np.savez(tmp_path / "oof.npz", **{**told, "ids": told["ids"][::-1]})
    with pytest.raises(CrosstrainError, match="arm scratch/1 was judged on other items"):
        evaluate.validation_probabilities([arms[0], replace(arms[1], folder=tmp_path)])
