"""Garbage is looked for seldom while much is imported, and as usual again afterwards."""

import gc

import pytest

from tasks.runtime import gc_tuning


@pytest.fixture(autouse=True)
def as_before():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_is_put_off_and_looked_for_again():
    gc.set_threshold(700, 10, 10)
    gc_tuning.put_off()
    assert gc.isenabled() and gc.get_threshold()[0] == gc_tuning.SELDOM
    gc_tuning.look_again()
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() > 0


def test_seldom_ends_with_its_block_also_by_an_error():
    before = gc.get_threshold()
    with pytest.raises(KeyError), gc_tuning.seldom():
        assert gc.get_threshold()[0] == gc_tuning.SELDOM
        raise KeyError
    assert gc.get_threshold() == before
