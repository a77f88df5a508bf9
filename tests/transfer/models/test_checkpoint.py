"""Files of weights are complete or absent, and none of them can run code."""

import os
import time

import pytest
import torch

from tests.death import die_at
from tests.transfer import tiny
from transfer.core.config import Section
from transfer.core.errors import ModelFileError
from transfer.models import checkpoint
from transfer.models.checkpoint import Keeper


class Card(Section):
    name: str
    size: int = 1


def test_a_saved_model_is_loaded_unchanged(tmp_path):
    network = tiny.network().to(memory_format=torch.channels_last)
    checkpoint.save_model(tmp_path, Card(name="hêtre ✓"), network.state_dict())
    assert tiny.same(checkpoint.load_state(tmp_path), network.state_dict())
    assert checkpoint.load_card(tmp_path, Card) == Card(name="hêtre ✓")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "weights.safetensors"]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        checkpoint.save_model(tmp_path / name, Card(name="x"), tiny.network().state_dict())
    first, second = (
        (tmp_path / n / "weights.safetensors").read_bytes() for n in ("first", "second")
    )
    assert first == second


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_damaged_weights_are_a_named_error(tmp_path, size):
    checkpoint.save_model(tmp_path, Card(name="x"), tiny.network().state_dict())
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelFileError, match=r"weights\.safetensors"):
        checkpoint.load_state(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"size": 1}', '{"name": "x", "colour": 1}', '{"name": 3}']
)
def test_a_card_of_another_schema_is_a_named_error(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"card\.json is not a model card of this version"):
        checkpoint.load_card(tmp_path, Card)


def test_missing_files_are_named_errors(tmp_path):
    with pytest.raises(ModelFileError):
        checkpoint.load_state(tmp_path)
    with pytest.raises(ModelFileError):
        checkpoint.load_card(tmp_path, Card)


def test_the_latest_checkpoint_is_kept_until_it_is_removed(tmp_path):
    keeper = Keeper(tmp_path / "deep" / "run.0")
    assert keeper.load() is None
    keeper.save({"step": 1, "weights": {"w": torch.ones(2)}})
    keeper.save({"step": 2, "weights": {"w": torch.zeros(2)}, "curve": [1.5, float("inf")]})
    kept = Keeper(keeper.path).load()
    assert kept["step"] == 2 and kept["curve"] == [1.5, float("inf")]
    assert torch.equal(kept["weights"]["w"], torch.zeros(2))
    keeper.forget()
    keeper.forget()
    assert list(keeper.path.parent.iterdir()) == []


def test_a_checkpoint_is_due_when_its_time_has_passed(tmp_path):
    assert not Keeper(tmp_path / "c", seconds=60).due()
    keeper = Keeper(tmp_path / "c", seconds=0.05)
    time.sleep(0.06)
    assert keeper.due()
    keeper.save({})
    assert not keeper.due()


@pytest.mark.parametrize("damage", [b"", b"PK", b"not a checkpoint" * 50])
def test_a_damaged_checkpoint_counts_as_none_and_is_removed(tmp_path, damage):
    keeper = Keeper(tmp_path / "c")
    keeper.path.write_bytes(damage)
    assert keeper.load() is None
    assert not keeper.path.exists()


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    torch.save({"step": 1, "bomb": Bomb(tmp_path / "ran")}, tmp_path / "c")
    assert Keeper(tmp_path / "c").load() is None
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_is_the_old_or_the_new_state_whenever_its_writer_is_killed(tmp_path):
    keeper = Keeper(tmp_path / "c")
    keeper.save({"step": 1})
    steps_stored = []
    for step in range(9):
        status = die_at(step, lambda: keeper.save({"step": 2}))
        steps_stored.append(keeper.load()["step"])
        if status == 0:
            break
    assert step >= 3
    assert set(steps_stored) <= {1, 2} and steps_stored[-1] == 2
