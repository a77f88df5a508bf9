"""Without labels: the stored outputs of an arm are those of its network; collapse has no weight."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.transfer import tiny
from transfer.arms import adapt
from transfer.data.items import SourceItems
from transfer.methods.baselines.source_only import SourceOnly
from transfer.methods.domain_alignment.adabn import AdaBN
from transfer.methods.self_training.entropy import Entropy
from transfer.metrics import calibration
from transfer.modalities.normalisation import Normalisation
from transfer.models import predictor
from transfer.selection import label_free, model_selection
from transfer.selection.model_selection import ArmFiles
from transfer.selection.validator import CandidateOutputs

FILES = {
    "logits",
    "features",
    "source_logits",
    "source_labels",
    "source_features",
    "train_features",
}
OWN = Normalisation(mean=(0.25,), std=(0.2,))
NAMES = ("fagus", "corylus", "acer")  # of a source: in another order, one class of its own


def source(n=30, class_names=NAMES, seed=7):
    return SourceItems(tiny.items(n, len(class_names), seed=seed), tuple(class_names), OWN)


def answers(network, images, normal):
    """Features and class scores, standardised in NumPy and passed in one go."""
    pixels = (images.numpy() / 255 - normal.mean[0]) / normal.std[0]
    network.eval()
    with torch.no_grad():
        features = network.backbone(torch.from_numpy(pixels.astype(np.float32)))
        return features.numpy(), network.head(features).numpy()


@pytest.fixture(scope="module")
def network():
    return tiny.network(seed=3)


@pytest.fixture(scope="module")
def observed(network):
    recipe = replace(tiny.recipe(tiny.items()), normal=tiny.NORMAL)
    pool, learned, held = tiny.pool(), source(), source(12, seed=8)
    return label_free.collect_outputs(network, recipe, pool, learned, held, tiny.CLASSES)


def of_shared(given):
    """Rows of items whose class the target has too, and their labels in its order."""
    names = [given.class_names[label] for label in given.items.labels.tolist()]
    rows = [i for i, name in enumerate(names) if name in tiny.CLASSES]
    return rows, [tiny.CLASSES.index(names[i]) for i in rows]


# outputs


def test_the_targets_outputs_are_those_of_the_network(network, observed):
    features, logits = answers(network, tiny.pool().records, tiny.NORMAL)
    np.testing.assert_allclose(observed["features"], features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(observed["logits"], logits, rtol=1e-4, atol=1e-5)
    assert observed["logits"].shape == (20, 3)


@pytest.mark.parametrize("normal", [OWN, tiny.NORMAL], ids=["its own", "the target's"])
def test_source_items_are_standardised_by_their_own_statistics(network, observed, normal):
    held = source(12, seed=8)
    rows, _ = of_shared(held)
    features, logits = answers(network, held.items.records[rows], normal)
    for name, expected in (("source_features", features), ("source_logits", logits)):
        assert np.allclose(observed[name], expected, rtol=1e-4, atol=1e-5) == (normal == OWN)


def test_train_features_are_of_items_of_the_training_split(network, observed):
    learned = source()
    rows, _ = of_shared(learned)
    features, _ = answers(network, learned.items.records[rows], OWN)
    np.testing.assert_allclose(observed["train_features"], features, rtol=1e-4, atol=1e-5)


def test_only_shared_classes_count_and_labels_are_the_targets(observed):
    rows, labels = of_shared(source(12, seed=8))
    assert len(rows) == 8 and set(labels) == {0, 2}
    assert observed["source_labels"].tolist() == labels
    assert len(observed["source_logits"]) == len(observed["source_features"]) == 8
    assert set(observed) == FILES


def test_a_source_with_no_class_of_the_target_gives_no_item(network):
    recipe, other_source = tiny.recipe(tiny.items()), source(class_names=("fagus", "quercus"))
    outputs = label_free.collect_outputs(
        network, recipe, tiny.pool(), other_source, other_source, tiny.CLASSES
    )
    assert not CandidateOutputs(**outputs, peers=softmax(outputs["logits"], 1)[None]).has_source


@pytest.mark.parametrize("items", [8, 9, 13, 15, 16, 17, 31])
def test_the_number_of_source_items_is_limited(network, monkeypatch, items):
    monkeypatch.setattr(label_free, "MAX_SOURCE_ITEMS", 8)
    recipe, given = tiny.recipe(tiny.items()), source(items, tiny.CLASSES)
    outputs = label_free.collect_outputs(network, recipe, tiny.pool(), given, given, tiny.CLASSES)
    for name in ("source_labels", "source_logits", "source_features", "train_features"):
        assert 4 <= len(outputs[name]) <= 8, name


@pytest.mark.parametrize("order", ["cyclic", "sorted"])
def test_the_sampled_source_items_have_every_class_in_its_share(network, monkeypatch, order):
    """Of items in the order a, b, c, a... every third would be of one class."""
    monkeypatch.setattr(label_free, "MAX_SOURCE_ITEMS", 12)
    given, recipe = source(36, tiny.CLASSES), tiny.recipe(tiny.items())
    if order == "sorted":
        rows = torch.argsort(given.items.labels, stable=True)
        sorted_items = replace(
            given.items, records=given.items.records[rows], labels=given.items.labels[rows]
        )
        given = replace(given, items=sorted_items)
    outputs = label_free.collect_outputs(network, recipe, tiny.pool(), given, given, tiny.CLASSES)
    assert np.bincount(outputs["source_labels"], minlength=3).tolist() == [4, 4, 4]


# storage


def test_what_is_stored_comes_back_bit_for_bit_among_its_peers(tmp_path, observed):
    other = {**observed, "logits": observed["logits"][::-1]}
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, arrays in zip(folders, (observed, other), strict=True):
        folder.mkdir()
        label_free.save(arrays, folder)
    loaded = label_free.load(folders)
    for candidate, arrays in zip(loaded, (observed, other), strict=True):
        for name in FILES:
            array = getattr(candidate, name)
            assert array.dtype == arrays[name].dtype and np.array_equal(array, arrays[name])
        peers = softmax(np.stack([observed["logits"], other["logits"]]).astype(float), axis=2)
        np.testing.assert_allclose(candidate.peers, peers, rtol=1e-5, atol=1e-7)


# which groups are chosen

FEW, MANY = 40, 60  # source and target items of a candidate


def candidates(shares, collapsed=()):
    """Candidates right on these shares of the source; some predict one class for the target."""
    source_labels, target_labels = np.arange(FEW) % 4, np.arange(MANY) % 4
    rng = np.random.default_rng(0)
    logits_by_arm = [
        np.eye(4)[np.zeros_like(target_labels) if i in collapsed else target_labels]
        for i in range(len(shares))
    ]
    peers = np.stack([softmax(logits, 1) for logits in logits_by_arm])
    return [
        CandidateOutputs(
            logits=logits,
            features=rng.normal(size=(MANY, 3)),
            source_logits=np.eye(4)[
                np.where(np.arange(FEW) < share * FEW, source_labels, (source_labels + 1) % 4)
            ],
            source_labels=source_labels,
            source_features=rng.normal(size=(FEW, 3)),
            train_features=rng.normal(size=(FEW, 3)),
            peers=peers,
        )
        for logits, share in zip(logits_by_arm, shares, strict=True)
    ]


def rank(shares, groups, collapsed=()):
    return label_free.rank(candidates(shares, collapsed), groups.split(), "source_accuracy")


def test_a_groups_score_is_the_mean_of_its_arms():
    ranking = rank([0.5, 0.9, 0.8, 0.7], "a b a b")
    assert ranking.scores == pytest.approx({"a": 0.65, "b": 0.8})
    assert ranking.collapsed == {}


@pytest.mark.parametrize(
    ("shares", "groups", "weights"),
    [
        ([0.5], "a", [1]),
        ([0.5, 0.6], "a b", [0, 1]),
        ([0.5, 0.9, 0.7], "a b c", [0, 0.5, 0.5]),
        ([0.5, 0.9, 0.7, 0.8], "a b c d", [0, 0.5, 0, 0.5]),
        ([0.5, 0.9, 0.7, 0.8, 0.6], "a b c d e", [0, 1 / 3, 1 / 3, 1 / 3, 0]),
        ([0.9, 0.5, 0.8, 0.7, 1.0, 0.1], "a b a b c c", [0.25, 0.25, 0.25, 0.25, 0, 0]),
        ([0.6, 0.6], "b a", [1, 0]),
    ],
)
def test_the_better_half_of_the_groups_share_the_weight_alike(shares, groups, weights):
    """The best group has the best mean, not the best arm; of equal groups the first is better."""
    assert rank(shares, groups).weights == pytest.approx(weights)


def test_collapsed_arms_have_no_weight():
    """Group b is best only by its collapsed arm; group a has one arm that has not collapsed."""
    ranking = rank([0.6, 0.2, 0.5, 1.0], "a a b b", collapsed=(1, 3))
    assert set(ranking.collapsed) == {1, 3}
    assert "effective classes" in ranking.collapsed[1]
    assert ranking.scores == pytest.approx({"a": 0.6, "b": 0.5})
    assert ranking.weights.tolist() == [1, 0, 0, 0]


def test_a_group_of_collapsed_arms_is_not_chosen():
    ranking = rank([1.0, 1.0, 0.5, 0.4], "a a b c", collapsed=(0, 1))
    assert ranking.scores == pytest.approx({"b": 0.5, "c": 0.4})
    assert ranking.weights.tolist() == [0, 0, 1, 0]


def test_where_all_have_collapsed_there_is_still_a_ranking():
    ranking = rank([0.9, 0.8, 0.3, 0.2], "a a b b", collapsed=range(4))
    assert set(ranking.collapsed) == {0, 1, 2, 3}
    assert ranking.weights == pytest.approx([0.5, 0.5, 0, 0])
    assert ranking.scores == pytest.approx({"a": 0.85, "b": 0.25})


# from an arm to the choice

METHODS = {"source_only": SourceOnly(), "adabn": AdaBN(), "entropy": Entropy()}
KNOWN = tiny.CLASSES[::-1]
NONE = tiny.items().take(np.zeros(24, bool))


def unlabelled():
    return replace(
        tiny.target(NONE, folds=0),
        pool=tiny.pool(40),
        source=tiny.source(30, KNOWN),
        source_held=tiny.source(12, KNOWN, seed=8),
    )


def trained(name, seed, root):
    """An arm without labels, as it is stored."""
    target, folder = unlabelled(), root / f"{name}-{seed}"
    recipe = tiny.recipe(target.pool, steps=5)
    arm = adapt.adapt(name, METHODS[name], [tiny.knowledge(KNOWN)], target, recipe, seed=seed)
    folder.mkdir()
    adapt.save(arm, target, folder)
    return ArmFiles(name, seed, folder, 5, sources=("trees",))


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    root = tmp_path_factory.mktemp("arms")
    return [trained(name, seed, root) for name in METHODS for seed in (0, 1)]


def test_an_arm_without_labels_is_stored_with_what_validators_read(arms):
    for arm in arms:
        names = {path.name for path in arm.folder.iterdir()}
        assert label_free.FILE in names and "oof.npz" not in names
        with np.load(arm.folder / label_free.FILE) as stored:
            assert set(stored.files) == FILES
            assert len(stored["logits"]) == 40 and len(stored["source_logits"]) == 12


def test_the_stored_outputs_are_those_of_the_stored_model(arms):
    """The pool is standardised by the source's statistics, the only ones in this test."""
    for arm in arms:
        model = predictor.load(arm.folder)
        assert model.card.members[0].normal == tiny.NORMAL
        logits = model.member_logits(unlabelled().pool.records)[0].numpy()
        with np.load(arm.folder / label_free.FILE) as stored:
            np.testing.assert_allclose(stored["logits"], logits, rtol=1e-4, atol=1e-4)


def test_the_unchanged_source_network_is_right_on_the_sources_items(arms):
    with np.load(arms[0].folder / label_free.FILE) as stored:
        right = stored["source_logits"].argmax(1) == stored["source_labels"]
    assert right.mean() > 0.6  # a third by chance, or for labels in the source's order


def test_an_arm_is_calibrated_on_the_source(arms):
    for arm in arms:
        with np.load(arm.folder / label_free.FILE) as stored:
            expected = calibration.fit_temperature(stored["source_logits"], stored["source_labels"])
        assert model_selection.temperature(arm.folder) == pytest.approx(expected)


def test_the_choice_is_the_validators_and_gains_are_over_the_unchanged_source(arms):
    choice = model_selection.choose(arms, "agreement")
    assert choice.baseline.weights.tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert choice.best.scheme == choice.source.scheme == "agreement"
    assert set(choice.by_source) == set(choice.without) == {"trees"}
    assert choice.by_source["trees"].weights.tolist() == choice.source.weights.tolist()
    assert choice.without == {"trees": None}  # no arm works without the source
    assert set(choice.scores) == set(METHODS)
    expected = label_free.rank(
        label_free.load([arm.folder for arm in arms]), [arm.group for arm in arms], "agreement"
    )
    assert choice.best.weights.tolist() == expected.weights.tolist()
    assert model_selection.is_label_free(arms)


def test_a_collapsed_arm_is_named_and_has_no_weight(arms, tmp_path):
    with np.load(arms[3].folder / label_free.FILE) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["logits"] = np.tile(np.float32([0, 9, 0]), (40, 1))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "card.json").write_bytes((arms[3].folder / "card.json").read_bytes())
    label_free.save(arrays, broken)
    given = [*arms[:3], replace(arms[3], folder=broken), *arms[4:]]
    choice = model_selection.choose(given, "agreement")
    assert "adabn/1" in choice.collapsed and "class 1" in choice.collapsed["adabn/1"]
    assert choice.best.weights[3] == 0
    assert choice.best.weights.sum() == pytest.approx(1)
