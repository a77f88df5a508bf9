"""Pretraining stops at its best and hands over what an arm needs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.transfer import tiny
from transfer.arms import pretrain
from transfer.arms.pretrain import PretrainSettings
from transfer.core.errors import CrosstrainError, ModelFileError
from transfer.data.items import TestItems, normalisation
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.modalities.image.augment import AugmentPolicy
from transfer.models import checkpoint
from transfer.training.batches import logits
from transfer.training.recipe import Machine, TrainingSettings

SEEN, WATCHED = tiny.items(30), tiny.items(12, seed=1)
NAMES = ("fagus", "quercus", "tilia")


def run(out, items=SEEN, keeper=None, **changes):
    told = {"learning_rate": 0.01, "look_every": 4, "patience": 3, "seed": 2, **changes}
    training = TrainingSettings(steps=told.pop("steps", 24), batch_size=8)
    out.mkdir(exist_ok=True)
    return pretrain.pretrain(
        "forest",
        NAMES,
        items,
        WATCHED,
        backbone_spec=tiny.BODY,
        spec=tiny.spec(),
        settings=PretrainSettings(training=training, augment=AugmentPolicy(), **told),
        machine=Machine(),
        out=out,
        keeper=keeper,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knowledge")
    return run(folder), folder


def test_the_card_tells_the_accuracy_of_the_weights_that_were_kept(made):
    card, folder = made
    net = tiny.network()
    net.load_state_dict(checkpoint.load_state(folder))
    scores = logits(net, WATCHED.records, tiny.recipe(SEEN)).double()
    assert card.normal == normalisation(SEEN, tiny.spec())
    found = float((scores.argmax(1) == WATCHED.labels).double().mean())
    assert card.validation_accuracy == pytest.approx(found)
    loss = float(torch.nn.functional.cross_entropy(scores, WATCHED.labels))
    assert loss == pytest.approx(min(card.history["validation_loss"]), rel=1e-5)
    assert card.source == "forest" and card.backbone_spec == tiny.BODY


def test_knowledge_comes_back_and_can_be_transferred(made):
    _, folder = made
    given = pretrain.load(folder)
    assert given.source == "forest" and given.class_names == NAMES
    ready = FineTune().prepare(tiny.network(), given, ("tilia", "acer", "ulmus"))
    assert torch.equal(
        ready.network.head.weight[0], checkpoint.load_state(folder)["head.weight"][2]
    )


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    _, folder = made
    run(tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_interrupted_run_gives_the_same_bytes(made, tmp_path):
    _, folder = made
    with pytest.raises(tiny.Died):
        run(tmp_path / "first", keeper=tiny.mortal(tmp_path / "c", 13))
    assert not list((tmp_path / "first").iterdir())
    run(tmp_path / "again", keeper=tiny.mortal(tmp_path / "c"))
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("every", "steps"), [(1, 600), (7, 150)])
def test_the_steps_are_those_that_were_made(tmp_path, every, steps):
    """Also where the curve has no point at the step it stopped."""
    worst = 2.0  # of a learning rate: the validation loss soon rises
    card = run(tmp_path, learning_rate=worst, look_every=every, patience=1, steps=steps)
    assert card.steps == card.history["validation_step"][-1] < steps
    assert card.steps % every == 0
    told = json.loads((tmp_path / "card.json").read_text())
    assert np.isfinite(told["history"]["loss"]).all()


def test_divergence_is_reported_and_nothing_is_kept(tmp_path):
    with pytest.raises(CrosstrainError, match="lower its learning rate"):
        run(tmp_path, learning_rate=1e8)
    assert not list(tmp_path.iterdir())


def test_the_test_split_is_refused(tmp_path):
    held_out = TestItems(SEEN.records, SEEN.labels, SEEN.ids)
    with pytest.raises(TypeError, match="TestItems"):
        run(tmp_path, items=held_out)


# knowledge that was not trained here


@pytest.mark.parametrize("fixed", [False, True])
def test_knowledge_that_is_kept_comes_back_as_it_was(tmp_path, fixed):
    given = replace(tiny.knowledge(), class_names=(), fixed_normal=fixed)
    pretrain.keep(given, tmp_path)
    found = pretrain.load(tmp_path)
    assert replace(found, state={}) == replace(given, state={})
    assert tiny.same(found.state, dict(given.state))


def test_keeping_knowledge_twice_gives_the_same_bytes_and_no_curve(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        pretrain.keep(tiny.knowledge(), folder)
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
    card = json.loads((folders[0] / "card.json").read_text())
    assert (card["steps"], card["history"], card["validation_accuracy"]) == (0, {}, None)


def test_what_was_trained_here_is_standardised_by_the_statistics_of_each_dataset(made):
    card, folder = made
    assert card.fixed_normal is False and pretrain.load(folder).fixed_normal is False
    assert pretrain.load(folder).normal == card.normal


def test_damaged_knowledge_is_a_named_error(made, tmp_path):
    _, folder = made
    (tmp_path / "card.json").write_bytes((folder / "card.json").read_bytes())
    with pytest.raises(ModelFileError, match="safetensors"):
        pretrain.load(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ModelFileError, match="not a model card"):
        pretrain.load(tmp_path)
