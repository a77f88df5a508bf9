"""The figures of an evaluation against scikit-learn, on arms that were trained for it."""

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
from transfer.selection.model_selection import ArmFiles, Choice, Mix
from transfer.training.batches import logits

SEEN = tiny.items(30)
RECIPE = tiny.recipe(SEEN, steps=5)
FIRST_TUNED = Mix("best", np.array([0, 0, 1.0, 0]))
UNTUNED = Mix("best", np.array([1.0, 0, 0, 0]))
CHOICE = Choice(
    best=Mix("weighted", np.array([0.1, 0.2, 0.3, 0.4])),
    baseline=Mix("baseline", np.array([0.5, 0.5, 0, 0])),
    scores={"best": 1.0},
    source=FIRST_TUNED,
    by_source={"trees": FIRST_TUNED},
    without={"trees": UNTUNED},
)


def hard_test_items():
    """Pictures of which some carry a wrong label, so that no figure is 0 or 1."""
    items = tiny.items(47, seed=5)
    labels = items.labels.clone()
    labels[::4] = (labels[::4] + 1) % 3
    return TestItems(items.records, labels, items.ids)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root, target = tmp_path_factory.mktemp("arms"), tiny.target(SEEN, 2)
    arms, made = [], []
    for name, sources in (("scratch", ()), ("fine_tune", ("trees",))):
        for seed in (0, 1):
            given = [tiny.knowledge() for _ in sources]
            arm = adapt.adapt(name, known()[name](), given, target, RECIPE, seed=seed)
            folder = root / f"{name}{seed}"
            folder.mkdir()
            adapt.save(arm, target, folder)
            arms.append(ArmFiles(name, seed, folder, 5, sources))
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
        target="hedge",
        class_names=tiny.CLASSES,
        labels_per_class=10,
        validator="agreement",
        settings=EvaluateSettings(replicates=200, **told),
    )


@pytest.fixture(scope="module")
def found(trained, tested):
    return judge(trained, tested)


def test_test_probabilities_are_the_calibrated_scores_of_the_committees(trained, tested):
    _, made = trained
    items = hard_test_items()
    for arm, own in zip(made, tested[0], strict=True):
        mean = np.mean([logits(n, items.records, RECIPE).numpy() for n in arm.networks], 0)
        t = calibration.fit_temperature(arm.scores.numpy(), SEEN.labels.numpy())
        np.testing.assert_allclose(own, calibration.softmax(mean / t), atol=1e-6)


def test_validation_probabilities_are_those_out_of_fold(trained):
    arms, made = trained
    probabilities, labels = model_selection.validation_probabilities(arms)
    assert probabilities.shape == (4, 30, 3)
    assert np.array_equal(labels, SEEN.labels.numpy())
    for arm, own in zip(made, probabilities, strict=True):
        t = calibration.fit_temperature(arm.scores.numpy(), labels)
        np.testing.assert_allclose(own, calibration.softmax(arm.scores.numpy() / t))


def test_the_chosen_model_has_the_figures_of_scikit_learn(found, tested):
    probabilities, labels = tested
    mixed = np.tensordot(CHOICE.best.weights, probabilities, 1)
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
    guess = np.tensordot(CHOICE.best.weights, probabilities, 1).argmax(1)
    told = sk.precision_recall_fscore_support(labels, guess, zero_division=0)
    assert [row.name for row in found.classes] == list(tiny.CLASSES)
    for row, *expected in zip(found.classes, *told, strict=True):
        assert (row.precision, row.recall, row.f1, row.items) == pytest.approx(expected)
    assert found.confusion == sk.confusion_matrix(labels, guess).tolist()


def test_the_comparator_is_the_uniform_mix_of_scratch(found, tested):
    probabilities, labels = tested
    mixed = probabilities[:2].mean(0)
    assert found.scratch.method == "scratch"
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
    for row, arm, own, weight in zip(
        found.arms, made, probabilities, CHOICE.best.weights, strict=True
    ):
        assert row.test == pytest.approx(sk.accuracy_score(labels, own.argmax(1)))
        judged = sk.accuracy_score(SEEN.labels.numpy(), arm.scores.numpy().argmax(1))
        assert row.validation == pytest.approx(judged)
        assert row.weight == weight and row.steps == 5 and row.seconds == 0
        assert row.uses_source == (row.method != "scratch")
        assert row.sources == (["trees"] if row.uses_source else [])
        assert (row.group, row.finalist) == (row.method, True)
        state = arm.networks[0].state_dict()
        assert len(arm.networks) == 2
        assert row.parameters == sum(tensor.numel() for tensor in state.values())
        assert row.notes == list(arm.notes)
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


# several sources


ITEMS = np.arange(300) % 3
GROUPS = {
    "scratch": (),
    "fine_tune/oaks": ("oaks",),
    "fine_tune/noise": ("noise",),
    "fusion": ("oaks", "noise"),
    "fine_tune/both": ("both",),  # one body, trained on oaks and noise
}


@pytest.fixture
def several(tmp_path):
    """Judge two seeds of each of GROUPS from the shares they have right: {group: (validation,
    test)}. Returns the choice, the test probabilities and the evaluation."""

    def judged(shares, **told):
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
        return chosen, test, judge((files, None), (test, ITEMS), choice=chosen, **told)

    return judged


def accuracy(weights, probabilities):
    return sk.accuracy_score(ITEMS, np.tensordot(weights, probabilities, 1).argmax(1))


HELP = {"scratch": (0.4, 0.5), "fine_tune/oaks": (0.7, 0.8)}
FOOLS = {"fine_tune/noise": (0.9, 0.1)}  # good on validation, and not on the test split


def test_a_source_that_hurts_on_the_test_is_left_out_of_the_model(several):
    chosen, test, found = several(HELP | FOOLS)
    assert "noise" in {name for arm in found.arms for name in arm.sources}
    verdicts = {source.name: source.verdict for source in found.sources}
    assert verdicts == {"oaks": "positive", "noise": "negative"}
    assert chosen.best.weights[4:].sum() > 0
    assert found.left_out == ["noise"]
    assert all(arm.weight == 0 for arm in found.arms if "noise" in arm.sources)
    assert not [name for name in found.chosen.members if "noise" in name]
    weights = np.array([arm.weight for arm in found.arms])
    assert weights == pytest.approx(chosen.without["noise"].weights)
    assert found.chosen.accuracy == pytest.approx(accuracy(weights, test))
    assert found.gain.point == pytest.approx(found.chosen.accuracy - found.scratch.accuracy)


def test_an_arm_that_takes_from_a_source_that_hurts_among_others_is_left_out_too(several):
    _, _, found = several(HELP | FOOLS | {"fusion": (0.95, 0.9)})
    assert found.left_out == ["noise"]
    assert {arm.group for arm in found.arms if arm.weight > 0} <= {"scratch", "fine_tune/oaks"}


def test_a_joint_body_is_left_out_for_its_own_harm_alone(several):
    chosen, _, found = several(HELP | FOOLS | {"fine_tune/both": (0.95, 0.9)})
    assert found.left_out == (["noise"] if chosen.best.weights[4:6].any() else [])
    assert {arm.group for arm in found.arms if arm.weight > 0} >= {"fine_tune/both"}
    assert chosen.without["noise"].weights[6:].sum() == 0  # though it learned from noise as well


def test_a_joint_body_that_hurts_is_left_out(several):
    _, _, found = several(HELP | {"fine_tune/both": (0.95, 0.1)})
    assert found.left_out == ["both"]
    assert not [arm for arm in found.arms if arm.weight > 0 and "both" in arm.sources]


def test_where_all_sources_hurt_the_model_is_from_scratch(several):
    shares = {"scratch": (0.4, 0.7), "fine_tune/oaks": (0.9, 0.1), "fine_tune/noise": (0.9, 0.2)}
    _, _, found = several(shares)
    assert {arm.group for arm in found.arms if arm.weight > 0} == {"scratch"}
    assert set(found.left_out) <= {"oaks", "noise"} and found.left_out
    assert found.verdict == "negative"  # of the transfer, though the model does without it
    assert found.gain.point == pytest.approx(found.chosen.accuracy - found.scratch.accuracy)


def test_a_source_that_hurts_and_was_not_chosen_is_not_named_as_left_out(several):
    chosen, _, found = several(HELP | {"fine_tune/noise": (0.1, 0.1)})
    assert {source.name: source.verdict for source in found.sources}["noise"] == "negative"
    assert found.left_out == []
    assert [arm.weight for arm in found.arms] == pytest.approx(chosen.best.weights)


def test_what_no_source_spoils_is_what_validation_chose(several):
    chosen, _, found = several(HELP | {"fine_tune/noise": (0.5, 0.6)})
    assert found.left_out == []
    assert [arm.weight for arm in found.arms] == pytest.approx(chosen.best.weights)
    assert found.chosen.scheme == chosen.best.scheme


def test_what_a_source_is_worth_and_what_it_adds_are_differences_of_accuracies(several):
    chosen, test, found = several(HELP | FOOLS)
    scratch = accuracy([0.5, 0.5, 0, 0, 0, 0], test)
    assert [source.name for source in found.sources] == ["oaks", "noise"]
    for source in found.sources:
        own = accuracy(chosen.by_source[source.name].weights, test)
        best, other = (
            accuracy(mix.weights, test) for mix in (chosen.best, chosen.without[source.name])
        )
        assert source.gain.point == pytest.approx(own - scratch)
        assert source.adds.point == pytest.approx(best - other)
        assert source.adds.low <= source.adds.point <= source.adds.high
    assert len({source.adds.point for source in found.sources}) == 2


def test_a_source_adds_exactly_nothing_where_nothing_of_it_was_chosen(several):
    chosen, _, found = several(HELP | {"fine_tune/noise": (0.1, 0.3)})
    assert np.allclose(chosen.best.weights, chosen.without["noise"].weights)
    adds = found.sources[1].adds
    assert (adds.point, adds.low, adds.high) == (0, 0, 0)


def test_what_a_source_adds_is_not_told_where_no_arm_does_without_it(trained, tested):
    found = judge(trained, tested, choice=replace(CHOICE, without={"trees": None}))
    assert found.sources[0].adds is None


def test_balanced_accuracy_is_what_a_source_adds_where_it_is_the_metric(several):
    chosen, test, found = several(HELP | FOOLS, metric="balanced_accuracy")
    best, other = (
        sk.balanced_accuracy_score(ITEMS, np.tensordot(mix.weights, test, 1).argmax(1))
        for mix in (chosen.best, chosen.without["noise"])
    )
    assert found.sources[1].adds.point == pytest.approx(best - other)
    assert found.sources[1].adds.metric == "balanced_accuracy"


def test_the_sentence_names_the_sources_that_were_used(several):
    _, _, found = several(HELP | {"fusion": (0.99, 0.9)})
    assert found.sentence.startswith("Transfer from oaks and noise helps: ")
    assert found.sentence.endswith("(300 test items, 2 seeds), verdict positive.")


def test_the_sentence_quotes_a_name_of_several_words():
    told = {"sources": ("oaks", "oaks and elms")}
    arms = [ArmFiles("fine_tune", 0, Path(), 5, **told), ArmFiles("l2_sp", 0, Path(), 5)]
    assert evaluate._named(arms, np.array([1.0, 0.0])) == "oaks and 'oaks and elms'"


def test_the_oracle_is_the_group_that_is_best_on_the_test_itself(several):
    shares = {"scratch": (0.5, 0.9), "fine_tune/oaks": (0.9, 0.6), "fine_tune/noise": (0.3, 0.4)}
    _, test, found = several(shares)
    by_group = {
        group: sk.accuracy_score(ITEMS, test[2 * i : 2 * i + 2].mean(0).argmax(1))
        for i, group in enumerate(shares)
    }
    assert found.oracle.group == "scratch" == max(by_group, key=by_group.get)
    assert found.oracle.accuracy == pytest.approx(by_group["scratch"])
    assert found.oracle.gap == pytest.approx(by_group["scratch"] - found.chosen.accuracy)


def test_the_oracle_may_be_beaten_by_an_honest_mix(several):
    """It is one method: a mix of several may be better, and the gap is then below zero."""
    _, test, found = several(HELP | {"fine_tune/noise": (0.7, 0.8)})
    groups = [test[i : i + 2].mean(0) for i in (0, 2, 4)]
    best = max(sk.accuracy_score(ITEMS, p.argmax(1)) for p in groups)
    assert found.oracle.accuracy == pytest.approx(best)
    assert found.oracle.gap == pytest.approx(best - found.chosen.accuracy)
