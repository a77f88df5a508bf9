"""Tables of predictions: the model's own answers in order, and a reason where there is none."""

import threading

import numpy as np
import pytest
from PIL import Image

from tests.transfer import tiny
from tests.transfer.models.test_predictor import write
from transfer.data.readers.unlabelled import Unlabelled
from transfer.deployment import batch_scoring
from transfer.deployment.batch_scoring import Scorer
from transfer.modalities.image.spec import ImageLimits
from transfer.models import predictor

CLASSES = ("acer", "été sauvage", "c#")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return predictor.load(write(tmp_path_factory.mktemp("score") / "model", names=CLASSES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty pictures, of which every fifth cannot be read."""
    root = tmp_path_factory.mktemp("score") / "pictures"
    root.mkdir()
    images, _ = tiny.pictures(40)
    for i, image in enumerate(images):
        file = root / f"{i:02d}.png"
        if i % 5:
            Image.fromarray(image[0]).save(file)
        else:
            file.write_bytes(b"\x89PNG broken" if i % 10 else b"")
    return root


def table(model, folder, batch=7, size=16):
    found = Unlabelled.open(folder, model.card.limits, tiny.MODALITY)
    scored = list(Scorer(model, "trees", 3, batch).score(batch_scoring.parts(found, "", size)))
    return scored, [row for _, part in scored for row in part.to_pylist()]


@pytest.mark.parametrize(("batch", "size"), [(1, 16), (7, 16), (16, 16), (100, 16), (8, 1000)])
def test_rows_are_the_models_answers_in_the_order_of_the_files(model, folder, batch, size):
    scored, rows = table(model, folder, batch, size)
    assert [len(part.items) for part, _ in scored] == [part.num_rows for _, part in scored]
    assert [row["path"] for row in rows] == [f"{i:02d}.png" for i in range(40)]
    for i, row in enumerate(rows):
        shares = [row[f"p:{name}"] for name in CLASSES]
        assert (row["model"], row["version"]) == ("trees", 3)
        if i % 5 == 0:
            assert row["error"] == ("unreadable" if i % 10 else "empty")
            assert row["detail"]
            assert row["label"] is row["probability"] is None
            assert shares == [None] * 3
        else:
            assert row["error"] is row["detail"] is None
            expected = model.predict_files([folder / row["path"]])[0]
            np.testing.assert_allclose(shares, expected, atol=1e-6)
            assert row["label"] == CLASSES[expected.argmax()]
            assert row["probability"] == max(shares)


def test_columns_stand_in_one_order(model, folder):
    scored, _ = table(model, folder)
    assert scored[0][1].column_names == [
        *("path", "label", "probability"),
        *("p:acer", "p:été sauvage", "p:c#"),
        *("error", "detail", "model", "version"),
    ]


def test_a_part_without_a_readable_item_has_rows_too(model, tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"")
    _, rows = table(model, tmp_path, batch=2)
    assert [row["error"] for row in rows] == ["empty"] * 3


def test_arrays_are_answered_as_files_are(model, tmp_path):
    images, _ = tiny.pictures(9)
    np.savez(tmp_path / "x.npz", images=images[:, 0])
    _, rows = table(model, tmp_path / "x.npz", batch=4)
    expected = model.predict_arrays(images[:, 0])
    np.testing.assert_allclose([[r[f"p:{n}"] for n in CLASSES] for r in rows], expected, atol=1e-6)


def keys(model, source, what="", size=16):
    return [
        part.key
        for part in batch_scoring.parts(
            Unlabelled.open(source, model.card.limits, tiny.MODALITY), what, size
        )
    ]


def test_a_key_changes_with_its_items_and_with_what_scores_them(model, folder, tmp_path):
    for file in sorted(folder.iterdir()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = keys(model, tmp_path)
    assert before == keys(model, tmp_path)
    assert len(set(before)) == 3
    assert not set(before) & set(keys(model, tmp_path, "another version"))
    (tmp_path / "99.png").write_bytes(b"")
    assert keys(model, tmp_path)[:2] == before[:2]
    (tmp_path / "20.png").write_bytes(b"changed")
    after = keys(model, tmp_path)
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_no_more_than_two_batches_are_begun_before_their_turn(model, folder, monkeypatch):
    begun, most, lock = [0], [0], threading.Lock()
    fit = batch_scoring._decode

    def watch(batch, card):
        with lock:
            begun[0] += 1
            most[0] = max(most[0], begun[0])
        return fit(batch, card)

    monkeypatch.setattr(batch_scoring, "_decode", watch)
    found = batch_scoring.parts(Unlabelled.open(folder, model.card.limits, tiny.MODALITY), "", 2)
    for _ in Scorer(model, "trees", 3, 2).score(found):
        with lock:
            begun[0] -= 1
    assert 2 <= most[0] <= batch_scoring.AHEAD + 1


def test_limits_of_the_card_hold(model, folder):
    strict = model.card.model_copy(update={"limits": ImageLimits(max_pixels=4)})
    _, rows = table(predictor.Predictor(strict, model.networks), folder)
    assert {row["error"] for row in rows} == {"empty", "unreadable", "too_many_pixels"}


def test_an_unfinished_scoring_leaves_no_thread(model, folder):
    found = batch_scoring.parts(Unlabelled.open(folder, model.card.limits, tiny.MODALITY), "", 2)
    scored = Scorer(model, "trees", 3, 2).score(found)
    next(scored)
    scored.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]
