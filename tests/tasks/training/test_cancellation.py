"""The signal to stop, and the end of their time, reach trainings in every process; they keep what
they did, and go on from there."""

import pickle
import time

import pytest

from tasks.store import content_store
from tasks.training.cancellation import Stop, Stoppable, Stopped, TimeUpError, check_time, is_over
from tasks.training.pretrain import pretrain
from tests.tasks import small
from transfer.arms.plan import ArmPlan

PLAN = ArmPlan("scratch", (), "scratch")


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_word_is_heard_by_a_copy_and_is_of_one_run():
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


def test_a_training_keeps_a_checkpoint_and_ends(tmp_path):
    keeper = Stoppable(tmp_path / "kept", seconds=1000, stop=Stop.of_run())
    assert not keeper.due()
    keeper.stop.set()
    assert keeper.due()
    with pytest.raises(Stopped):
        keeper.save({"step": 7})
    assert keeper.load() == {"step": 7}


def test_stopping_is_no_error_that_a_search_could_take_for_bad_settings():
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize(("until", "over"), [(None, False), (0.0, True), (1e12, False)])
def test_a_time_is_over_once_it_has_come(until, over):
    assert is_over(until) == over
    if over:
        with pytest.raises(TimeUpError):
            check_time(until)
    else:
        check_time(until)


def test_a_checkpoint_is_kept_before_the_training_ends(tmp_path):
    keeper = Stoppable(tmp_path / "kept", seconds=1e6, until=time.time() + 1e6)
    assert not keeper.due()
    keeper.until = time.time()
    assert keeper.due()
    with pytest.raises(TimeUpError):
        keeper.save({"step": 3})
    assert keeper.load() == {"step": 3}


def test_an_interrupt_comes_before_the_end_of_the_time(tmp_path):
    stop = Stop.of_run()
    stop.set()
    with pytest.raises(Stopped):
        Stoppable(tmp_path / "kept", stop=stop, until=0.0).save({})


def test_an_arm_whose_time_is_up_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    """Its time is up at the third step of the first fold; run again, it is what it would be."""
    monkeypatch.chdir(tmp_path)
    settings = small.settings(adapt={"methods": ["fine_tune"], "seeds": [0], "folds": 2})
    into = small.target(settings)
    whole = small.arm(PLAN, into, settings, [], seed=1)
    looks = iter([False] * 3)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.training.cancellation.is_over", lambda until: next(looks, True))
        assert small.arm(PLAN, into, settings, [], until=0.0) is None
        kept = list((content_store.paths.BUILD / "partial" / "adapt").iterdir())
        assert len(kept) == 1
    resumed = small.arm(PLAN, into, settings, [])
    assert not resumed.ref.reused and resumed.steps == whole.steps
    assert not list((content_store.paths.BUILD / "partial" / "adapt").iterdir())
    digest = resumed.ref.digest
    for file in resumed.ref.path.iterdir():
        file.unlink()
    assert small.arm(PLAN, into, settings, []).ref.digest == digest


def test_what_is_stored_needs_no_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = small.settings()
    into = small.target(settings)
    assert small.arm(PLAN, into, settings, [], until=0.0) is None
    made = small.arm(PLAN, into, settings, [])
    assert small.arm(PLAN, into, settings, [], until=0.0).ref.digest == made.ref.digest


def test_a_backbone_whose_time_is_up_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = small.settings()
    into = small.target(settings)
    parts = {"large": small.source("large", into, settings).items}
    other = settings.model_copy(
        update={"pretrain": settings.pretrain.model_copy(update={"seed": 9})}
    )
    results = [
        pretrain.fn("large", small.context(into, changed, parts), small.MANY, Stop.of_run(), 0.0)
        for changed in (settings, other)
    ]
    assert results[0].knowledge.reused
    assert results[1] is None
