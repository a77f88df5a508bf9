"""The word to stop reaches trainings wherever they are, and they keep what they did."""

import pickle
from pathlib import Path

import pytest

from tasks.stoppable import Stop, Stoppable, Stopped


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_word_is_heard_by_a_copy_and_is_of_one_run() -> None:
    stop, other = Stop.of_run(), Stop.of_run()
    copy = pickle.loads(pickle.dumps(stop))
    copy.check()
    stop.set()
    assert copy.is_set() and not other.is_set()
    with pytest.raises(Stopped):
        copy.check()
    stop.forget()
    stop.forget()
    assert not copy.is_set()


def test_a_training_keeps_a_checkpoint_and_ends(tmp_path: Path) -> None:
    keeper = Stoppable(tmp_path / "kept", seconds=1000, stop=Stop.of_run())
    assert not keeper.due()
    keeper.stop.set()
    assert keeper.due()
    with pytest.raises(Stopped):
        keeper.save({"step": 7})
    assert keeper.load() == {"step": 7}


def test_stopping_is_no_error_that_a_search_could_take_for_bad_settings() -> None:
    assert not issubclass(Stopped, Exception)
