"""The figures of an evaluation against scikit-learn, on arms that were trained for this test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.transfer import stored, tiny
from transfer.arms import adapt
from transfer.data.items import TestItems
from transfer.evaluation import evaluate
from transfer.evaluation.tables import EvaluateSettings
from transfer.methods.lookup import known
from transfer.metrics import calibration
from transfer.selection import model_selection
from transfer.selection.model_selection import ArmFiles, Mix, ModelChoice
from transfer.training.batches import logits

LABELLED = tiny.items(30)
RECIPE = tiny.recipe(LABELLED, steps=5)
FIRST_TUNED = Mix("best", np.array([0, 0, 1.0, 0]))
UNTUNED = Mix("best", np.array([1.0, 0, 0, 0]))
CHOICE = ModelChoice(
    best=Mix("weighted", np.array([0.1, 0.2, 0.3, 0.4])),
    baseline=Mix("baseline", np.array([0.5, 0.5, 0, 0])),
    scores={"best": 1.0},
    source=FIRST_TUNED,
    by_source={"trees": FIRST_TUNED},
    without={"trees": UNTUNED},
)


def hard_test_items():
    """Items of which some have a wrong label, so that no figure is 0 or 1."""
    items = tiny.items(47, seed=5)
    labels = items.labels.clone()
    labels[::4] = (labels[::4] + 1) % 3
    return TestItems(items.records, labels, items.ids)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root, target = tmp_path_factory.mktemp("arms"), tiny.target(LABELLED, 2)
    arms, trained_arms = [], []
    for name, sources in (("scratch", ()), ("fine_tune", ("trees",))):
        for seed in (0, 1):
            knowledge = [tiny.knowledge() for _ in sources]
            arm = adapt.adapt(name, known()[name](), knowledge, target, RECIPE, seed=seed)
            folder = root / f"{name}{seed}"
            folder.mkdir()
            adapt.save(arm, target, folder)
            arms.append(ArmFiles(name, seed, folder, 5, sources))
            trained_arms.append(arm)
    return arms, trained_arms


@pytest.fixture(scope="module")
def tested(trained):
    arms, _ = trained
    items = hard_test_items()
    return evaluate.test_probabilities(arms, items), items.labels.numpy()


def run_evaluation(trained, tested, **options):
    arms, _ = trained
    probabilities, labels = tested
    return evaluate.evaluate(
        arms,
        options.pop("choice", CHOICE),
        probabilities,
        labels,
        target="hedge",
        class_names=tiny.CLASSES,
        labels_per_class=10,
        validator="agreement",
        settings=EvaluateSettings(replicates=200, **options),
    )


@pytest.fixture(scope="module")
def evaluation(trained, tested):
    return run_evaluation(trained, tested)


def test_test_probabilities_are_the_calibrated_scores_of_the_networks(trained, tested):
    _, trained_arms = trained
    items = hard_test_items()
    for arm, own in zip(trained_arms, tested[0], strict=True):
        mean = np.mean([logits(n, items.records, RECIPE).numpy() for n in arm.networks], 0)
        t = calibration.fit_temperature(arm.scores.numpy(), LABELLED.labels.numpy())
        np.testing.assert_allclose(own, calibration.softmax(mean / t), atol=1e-6)


def test_validation_probabilities_are_those_out_of_fold(trained):
    arms, trained_arms = trained
    probabilities, labels = model_selection.validation_probabilities(arms)
    assert probabilities.shape == (4, 30, 3)
    assert np.array_equal(labels, LABELLED.labels.numpy())
    for arm, own in zip(trained_arms, probabilities, strict=True):
        t = calibration.fit_temperature(arm.scores.numpy(), labels)
        np.testing.assert_allclose(own, calibration.softmax(arm.scores.numpy() / t))


def test_the_chosen_model_has_the_figures_of_scikit_learn(evaluation, tested):
    probabilities, labels = tested
    mixed = np.tensordot(CHOICE.best.weights, probabilities, 1)
    predicted, chosen = mixed.argmax(1), evaluation.chosen
    assert chosen.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    assert chosen.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    expected = sk.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    assert (chosen.macro_precision, chosen.macro_recall, chosen.macro_f1) == pytest.approx(
        expected[:3]
    )
    assert chosen.log_loss == pytest.approx(sk.log_loss(labels, mixed))
    assert chosen.brier == pytest.approx(((mixed - np.eye(3)[labels]) ** 2).sum(1).mean())
    assert 0 <= chosen.low < chosen.accuracy < chosen.high <= 1
    assert chosen.members == ["scratch/0", "scratch/1", "fine_tune/0", "fine_tune/1"]
    assert chosen.weights == [0.1, 0.2, 0.3, 0.4]


def test_each_class_has_the_figures_of_scikit_learn(evaluation, tested):
    probabilities, labels = tested
    predicted = np.tensordot(CHOICE.best.weights, probabilities, 1).argmax(1)
    expected_rows = sk.precision_recall_fscore_support(labels, predicted, zero_division=0)
    assert [row.name for row in evaluation.classes] == list(tiny.CLASSES)
    for row, *expected in zip(evaluation.classes, *expected_rows, strict=True):
        assert (row.precision, row.recall, row.f1, row.items) == pytest.approx(expected)
    assert evaluation.confusion == sk.confusion_matrix(labels, predicted).tolist()


def test_the_baseline_is_the_uniform_mix_of_scratch(evaluation, tested):
    probabilities, labels = tested
    mixed = probabilities[:2].mean(0)
    assert evaluation.scratch.method == "scratch"
    assert evaluation.scratch.accuracy == pytest.approx(sk.accuracy_score(labels, mixed.argmax(1)))
    singles = [sk.accuracy_score(labels, p.argmax(1)) for p in probabilities[:2]]
    assert evaluation.scratch.single_mean == pytest.approx(np.mean(singles))


def test_gains_are_differences_of_the_metric(evaluation, trained, tested):
    probabilities, labels = tested
    scratch = sk.accuracy_score(labels, probabilities[:2].mean(0).argmax(1))
    tuned = sk.accuracy_score(labels, probabilities[2].argmax(1))
    assert evaluation.gain.point == pytest.approx(evaluation.chosen.accuracy - scratch)
    (source,) = evaluation.sources
    assert source.gain.point == pytest.approx(tuned - scratch)
    assert source.members == ["fine_tune/0"] and source.name == "trees"
    assert source.gain.low <= source.gain.point <= source.gain.high
    assert evaluation.verdict == source.verdict
    balanced = run_evaluation(trained, tested, metric="balanced_accuracy")
    assert balanced.gain.metric == balanced.metric == "balanced_accuracy"
    expected = sk.balanced_accuracy_score(labels, probabilities[2].argmax(1))
    expected -= sk.balanced_accuracy_score(labels, probabilities[:2].mean(0).argmax(1))
    assert balanced.sources[0].gain.point == pytest.approx(expected)


def test_every_arm_is_listed_with_validation_and_test_apart(evaluation, trained, tested):
    _, trained_arms = trained
    probabilities, labels = tested
    names = [("scratch", 0), ("scratch", 1), ("fine_tune", 0), ("fine_tune", 1)]
    assert [(row.method, row.seed) for row in evaluation.arms] == names
    for row, arm, own, weight in zip(
        evaluation.arms, trained_arms, probabilities, CHOICE.best.weights, strict=True
    ):
        assert row.test == pytest.approx(sk.accuracy_score(labels, own.argmax(1)))
        validation = sk.accuracy_score(LABELLED.labels.numpy(), arm.scores.numpy().argmax(1))
        assert row.validation == pytest.approx(validation)
        assert row.weight == weight and row.steps == 5 and row.seconds == 0
        assert row.uses_source == (row.method != "scratch")
        assert row.sources == (["trees"] if row.uses_source else [])
        assert (row.group, row.finalist) == (row.method, True)
        state = arm.networks[0].state_dict()
        assert len(arm.networks) == 2
        assert row.parameters == sum(tensor.numel() for tensor in state.values())
        assert row.notes == list(arm.notes)
        assert row.test_low <= row.test <= row.test_high


def test_the_reliability_bins_cover_every_item_once(evaluation, tested):
    _, labels = tested
    assert sum(b.items for b in evaluation.reliability) == len(labels) == evaluation.test_items
    right = sum(b.items * b.accuracy for b in evaluation.reliability)
    assert right == pytest.approx(evaluation.chosen.accuracy * len(labels))
    gap = sum(b.items * abs(b.accuracy - b.confidence) for b in evaluation.reliability) / len(
        labels
    )
    assert evaluation.chosen.ece == pytest.approx(gap)


def test_the_same_inputs_give_the_same_bytes(evaluation, trained, tested):
    assert run_evaluation(trained, tested).model_dump_json() == evaluation.model_dump_json()


# several sources


ITEMS = np.arange(300) % 3
GROUPS = {
    "scratch": (),
    "fine_tune/oaks": ("oaks",),
    "fine_tune/noise": ("noise",),
    "fusion": ("oaks", "noise"),
    "fine_tune/both": ("both",),  # one backbone, trained on oaks and noise
}


@pytest.fixture
def several(tmp_path):
    """Evaluate two seeds of each of GROUPS with given shares of right predictions: {group:
    (validation, test)}. Returns the choice, the test probabilities and the evaluation."""

    def judged(shares, **options):
        files = [
            stored.arm(
                tmp_path,
                group.split("/")[0],
                stored.logits(shares[group][0], seed=10 * i + seed),
                seed=seed,
                sources=sources,
                label=group,
                parts=("oaks", "noise") if sources == ("both",) else (),
            )
            for i, (group, sources) in enumerate(GROUPS.items())
            for seed in (0, 1)
            if group in shares
        ]
        test = np.stack(
            [
                stored.probabilities(shares[arm.group][1], ITEMS, 100 + i)
                for i, arm in enumerate(files)
            ]
        )
        chosen = model_selection.choose(files, "agreement")
        return chosen, test, run_evaluation((files, None), (test, ITEMS), choice=chosen, **options)

    return judged


def accuracy(weights, probabilities):
    return sk.accuracy_score(ITEMS, np.tensordot(weights, probabilities, 1).argmax(1))


HELP = {"scratch": (0.4, 0.5), "fine_tune/oaks": (0.7, 0.8)}
MISLEADING = {"fine_tune/noise": (0.9, 0.1)}  # good on validation, and not on the test split


def test_a_source_that_hurts_on_the_test_is_left_out_of_the_model(several):
    chosen, test, evaluation = several(HELP | MISLEADING)
    assert "noise" in {name for arm in evaluation.arms for name in arm.sources}
    verdicts = {source.name: source.verdict for source in evaluation.sources}
    assert verdicts == {"oaks": "positive", "noise": "negative"}
    assert chosen.best.weights[4:].sum() > 0
    assert evaluation.left_out == ["noise"]
    assert all(arm.weight == 0 for arm in evaluation.arms if "noise" in arm.sources)
    assert not [name for name in evaluation.chosen.members if "noise" in name]
    weights = np.array([arm.weight for arm in evaluation.arms])
    assert weights == pytest.approx(chosen.without["noise"].weights)
    assert evaluation.chosen.accuracy == pytest.approx(accuracy(weights, test))
    assert evaluation.gain.point == pytest.approx(
        evaluation.chosen.accuracy - evaluation.scratch.accuracy
    )


def test_an_arm_that_uses_a_source_that_hurts_among_others_is_left_out_too(several):
    _, _, evaluation = several(HELP | MISLEADING | {"fusion": (0.95, 0.9)})
    assert evaluation.left_out == ["noise"]
    assert {arm.group for arm in evaluation.arms if arm.weight > 0} <= {"scratch", "fine_tune/oaks"}


def test_a_joint_backbone_is_left_out_only_for_its_own_harm(several):
    chosen, _, evaluation = several(HELP | MISLEADING | {"fine_tune/both": (0.95, 0.9)})
    assert evaluation.left_out == (["noise"] if chosen.best.weights[4:6].any() else [])
    assert {arm.group for arm in evaluation.arms if arm.weight > 0} >= {"fine_tune/both"}
    assert chosen.without["noise"].weights[6:].sum() == 0  # though it learned from noise as well


def test_a_joint_backbone_that_hurts_is_left_out(several):
    _, _, evaluation = several(HELP | {"fine_tune/both": (0.95, 0.1)})
    assert evaluation.left_out == ["both"]
    assert not [arm for arm in evaluation.arms if arm.weight > 0 and "both" in arm.sources]


def test_where_all_sources_hurt_the_model_is_from_scratch(several):
    shares = {"scratch": (0.4, 0.7), "fine_tune/oaks": (0.9, 0.1), "fine_tune/noise": (0.9, 0.2)}
    _, _, evaluation = several(shares)
    assert {arm.group for arm in evaluation.arms if arm.weight > 0} == {"scratch"}
    assert set(evaluation.left_out) <= {"oaks", "noise"} and evaluation.left_out
    assert evaluation.verdict == "negative"  # of the transfer, though the model does not use it
    assert evaluation.gain.point == pytest.approx(
        evaluation.chosen.accuracy - evaluation.scratch.accuracy
    )


def test_a_source_that_hurts_and_was_not_chosen_is_not_named_as_left_out(several):
    chosen, _, evaluation = several(HELP | {"fine_tune/noise": (0.1, 0.1)})
    assert {source.name: source.verdict for source in evaluation.sources}["noise"] == "negative"
    assert evaluation.left_out == []
    assert [arm.weight for arm in evaluation.arms] == pytest.approx(chosen.best.weights)


def test_without_a_source_that_hurts_the_model_is_that_of_validation(several):
    chosen, _, evaluation = several(HELP | {"fine_tune/noise": (0.5, 0.6)})
    assert evaluation.left_out == []
    assert [arm.weight for arm in evaluation.arms] == pytest.approx(chosen.best.weights)
    assert evaluation.chosen.scheme == chosen.best.scheme


def test_the_gain_and_the_addition_of_a_source_are_differences_of_accuracies(several):
    chosen, test, evaluation = several(HELP | MISLEADING)
    scratch = accuracy([0.5, 0.5, 0, 0, 0, 0], test)
    assert [source.name for source in evaluation.sources] == ["oaks", "noise"]
    for source in evaluation.sources:
        own = accuracy(chosen.by_source[source.name].weights, test)
        best, other = (
            accuracy(mix.weights, test) for mix in (chosen.best, chosen.without[source.name])
        )
        assert source.gain.point == pytest.approx(own - scratch)
        assert source.adds.point == pytest.approx(best - other)
        assert source.adds.low <= source.adds.point <= source.adds.high
    assert len({source.adds.point for source in evaluation.sources}) == 2


def test_a_source_adds_exactly_nothing_where_nothing_of_it_was_chosen(several):
    chosen, _, evaluation = several(HELP | {"fine_tune/noise": (0.1, 0.3)})
    assert np.allclose(chosen.best.weights, chosen.without["noise"].weights)
    adds = evaluation.sources[1].adds
    assert (adds.point, adds.low, adds.high) == (0, 0, 0)


def test_the_addition_of_a_source_is_none_where_every_arm_uses_it(trained, tested):
    evaluation = run_evaluation(trained, tested, choice=replace(CHOICE, without={"trees": None}))
    assert evaluation.sources[0].adds is None


def test_balanced_accuracy_is_what_a_source_adds_where_it_is_the_metric(several):
    chosen, test, evaluation = several(HELP | MISLEADING, metric="balanced_accuracy")
    best, other = (
        sk.balanced_accuracy_score(ITEMS, np.tensordot(mix.weights, test, 1).argmax(1))
        for mix in (chosen.best, chosen.without["noise"])
    )
    assert evaluation.sources[1].adds.point == pytest.approx(best - other)
    assert evaluation.sources[1].adds.metric == "balanced_accuracy"


def test_the_sentence_names_the_sources_that_were_used(several):
    _, _, evaluation = several(HELP | {"fusion": (0.99, 0.9)})
    assert evaluation.sentence.startswith("Transfer from oaks and noise helps: ")
    assert evaluation.sentence.endswith("(300 test items, 2 seeds), verdict positive.")


def test_the_sentence_quotes_a_name_of_several_words():
    names = {"sources": ("oaks", "oaks and elms")}
    arms = [ArmFiles("fine_tune", 0, Path(), 5, **names), ArmFiles("l2_sp", 0, Path(), 5)]
    assert evaluate._source_phrase(arms, np.array([1.0, 0.0])) == "oaks and 'oaks and elms'"


def test_the_oracle_is_the_group_that_is_best_on_the_test_itself(several):
    shares = {"scratch": (0.5, 0.9), "fine_tune/oaks": (0.9, 0.6), "fine_tune/noise": (0.3, 0.4)}
    _, test, evaluation = several(shares)
    by_group = {
        group: sk.accuracy_score(ITEMS, test[2 * i : 2 * i + 2].mean(0).argmax(1))
        for i, group in enumerate(shares)
    }
    assert evaluation.oracle.group == "scratch" == max(by_group, key=by_group.get)
    assert evaluation.oracle.accuracy == pytest.approx(by_group["scratch"])
    assert evaluation.oracle.gap == pytest.approx(by_group["scratch"] - evaluation.chosen.accuracy)


def test_a_mix_chosen_on_validation_may_beat_the_oracle(several):
    """The oracle is a single method: a mix may be better, and the gap is then below zero."""
    _, test, evaluation = several(HELP | {"fine_tune/noise": (0.7, 0.8)})
    groups = [test[i : i + 2].mean(0) for i in (0, 2, 4)]
    best = max(sk.accuracy_score(ITEMS, p.argmax(1)) for p in groups)
    assert evaluation.oracle.accuracy == pytest.approx(best)
    assert evaluation.oracle.gap == pytest.approx(best - evaluation.chosen.accuracy)
