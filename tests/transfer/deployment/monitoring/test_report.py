"""The report on new data: drift, accuracy by the available labels, and unusual items."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tests.transfer.deployment.monitoring.test_drift import seen
from transfer.core.errors import NothingToDoError
from transfer.data.readers.listing import Reject
from transfer.deployment.monitoring.drift import MonitorSettings
from transfer.deployment.monitoring.new_data import Observed
from transfer.deployment.monitoring.reference import Outputs, Reference
from transfer.deployment.monitoring.report import Monitored, distances, judge

CLASSES = ("acer", "betula", "corylus", "fagus")
SETTINGS = MonitorSettings(permutations=599)


def fresh(new, labels=None, bare=None, rejects=(), strange=None):
    n = len(new.features)
    known = np.full(n, -1) if labels is None else np.asarray(labels)
    unlabelled = known < 0 if bare is None else bare
    ids = [f"{i}.png" for i in range(n)]
    return Observed(ids, new, known, strange or {}, unlabelled, list(rejects), n + len(rejects))


def found(new, settings=SETTINGS, **monitored):
    reference = Reference(seen(150, 0), usable=990, rejected=10, tested=400, right=380)
    return judge(
        reference,
        fresh(new, **monitored),
        CLASSES,
        settings,
        target="trees",
        model="crosstrain-trees",
        version=3,
        folder="new",
    )


def test_new_data_of_the_same_kind_is_no_drift():
    monitored = found(seen(60, 5))
    assert not monitored.drift and not monitored.retrain and monitored.drifted == []
    assert monitored.sentence.startswith("No drift found in 60 new items")
    assert monitored.expected.accuracy == 0.95 and monitored.expected.items == 400
    assert sum(one.new for one in monitored.classes) == pytest.approx(1)
    assert Monitored.model_validate_json(monitored.model_dump_json()) == monitored


def test_drift_is_named_and_asks_for_a_retrain():
    monitored = found(seen(60, 5, moved=1, only=[0, 1]))
    assert monitored.drift and monitored.retrain
    assert monitored.sentence.startswith("Drift in features and labels: 60 new items are unlike")


def test_accuracy_rests_on_what_labels_there_are():
    new = seen(60, 5)
    predicted = new.probabilities.argmax(1)
    assert found(new).accuracy.kind == "confidence"
    wrong = np.where(np.arange(60) < 6, (predicted + 1) % 4, predicted)
    all_known = found(new, labels=wrong)
    assert all_known.accuracy.kind == "labels" and all_known.accuracy.accuracy == 0.9
    part = found(new, labels=np.where(np.arange(60) < 30, wrong, -1))
    assert part.accuracy.kind == "labels and confidence"
    assert (part.accuracy.labelled, part.accuracy.unlabelled) == (30, 30)


def test_a_label_without_a_class_is_reported_and_left_out_of_the_accuracy():
    new = seen(60, 5)
    predicted = new.probabilities.argmax(1)
    labels = np.where(np.arange(60) < 20, -1, predicted)
    monitored = found(new, labels=labels, bare=np.zeros(60, bool), strange={"quercus": 20})
    assert monitored.strange == {"quercus": 20}
    assert (monitored.accuracy.labelled, monitored.accuracy.unlabelled) == (40, 0)


def test_broken_files_are_counted_named_and_found():
    rejects = [Reject(f"{i}.jpg", "truncated", "cut") for i in range(30)]
    monitored = found(seen(30, 5), rejects=rejects)
    assert [test.name for test in monitored.drifted] == ["rejects"] and not monitored.retrain
    assert monitored.rejects == {"truncated": 30} and len(monitored.broken) == 20
    assert "30 new items and 30 broken files" in monitored.sentence


def test_a_folder_of_broken_files_alone_is_judged_and_a_few_files_are_not():
    rejects = [Reject(f"{i}.jpg", "truncated", "cut") for i in range(12)]
    monitored = found(seen(0, 5), rejects=rejects)
    assert (
        monitored.drift
        and monitored.accuracy is None
        and monitored.unusual == []
        and monitored.confidence is None
    )
    with pytest.raises(NothingToDoError, match="new holds 9 files to test; expected 10"):
        found(seen(5, 5), rejects=rejects[:4])


def test_distances_are_those_of_the_nearest_neighbours():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(40, 4)), rng.normal(size=(9, 4)) + 1
    both = np.concatenate([old, new])
    scaled = (both - both.mean(0)) / both.std(0)
    peer = NearestNeighbors(n_neighbors=5).fit(scaled[:40])
    own, others = distances(old, new)
    np.testing.assert_allclose(own, peer.kneighbors()[0].mean(1), atol=1e-9)
    np.testing.assert_allclose(others, peer.kneighbors(scaled[40:])[0].mean(1), atol=1e-9)


def test_the_most_unusual_is_the_one_that_is_far_off():
    new = seen(40, 5)
    features = new.features.copy()
    features[17] += 20
    monitored = found(Outputs(features, new.probabilities, new.summary))
    assert monitored.unusual[0].id == "17.png" and monitored.unusual[0].rarity == 0
    assert len(monitored.unusual) == 12
    assert monitored.unusual[0].predicted == CLASSES[new.probabilities[17].argmax()]
