"""Collections are rare while large packages are imported, and as usual again afterwards."""

import gc

import pytest

from tasks.runtime import gc_tuning


@pytest.fixture(autouse=True)
def restored_thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_threshold_is_raised_and_restored():
    gc.set_threshold(700, 10, 10)
    gc_tuning.raise_threshold()
    assert gc.isenabled() and gc.get_threshold()[0] == gc_tuning.RAISED_THRESHOLD
    gc_tuning.restore_threshold()
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() > 0


def test_the_raised_threshold_ends_with_its_block_also_by_an_error():
    before = gc.get_threshold()
    with pytest.raises(KeyError), gc_tuning.raised_threshold():
        assert gc.get_threshold()[0] == gc_tuning.RAISED_THRESHOLD
        raise KeyError
    assert gc.get_threshold() == before
