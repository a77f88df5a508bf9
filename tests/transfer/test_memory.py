"""What a picture takes in memory, measured as the peak of a process of its own."""

import tracemalloc

import pytest

from benchmarks import memory
from transfer.data.quality.checks import ScannedDataset, items_tables
from transfer.data.storage.table import PART

LIMIT = 50  # bytes a picture
BUFFERS = 2**25  # what comes and goes with a part of a table, whatever the number of pictures


@pytest.fixture(autouse=True)
def no_holes(monkeypatch):
    """Have freed arrays given back at once: holes that the allocator keeps are not held by us."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", f"{2**20}")


def test_splitting_and_loading_take_few_bytes_a_picture(tmp_path):
    sizes = 70_000, 200_000
    folders = [tmp_path / f"{items}" for items in sizes]
    for folder, items in zip(folders, sizes, strict=True):
        memory.make(folder / "target", items, "target")
    small, large = memory.measured(["split target", "load"], folders)
    grown = large["bytes"] - small["bytes"]
    assert grown < LIMIT * (sizes[1] - sizes[0]) + BUFFERS


def test_validating_holds_few_numbers_an_item(tmp_path):
    def peak(items):
        """Bytes that Python and NumPy hold at most until the first flaws are told."""
        names = "source", "target"
        for name in names:
            memory.make(tmp_path / f"{items}" / name, items, name)
        source, target = (ScannedDataset.load(tmp_path / f"{items}" / name) for name in names)
        tracemalloc.start()
        next(items_tables(source, target))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = 2 * PART, 6 * PART
    assert peak(many) - peak(few) < 32 * (many - few)  # of items in each of both


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_million_pictures_are_split_and_trained_on_in_bounded_memory(tmp_path):
    few, many = 200_000, 5_000_000
    for items in (few, many):
        memory.make(tmp_path / f"{items}" / "target", items, "target")
    for step in ("split target", "train"):
        (small,) = memory.measured([step], [tmp_path / f"{few}"])
        (large,) = memory.measured([step], [tmp_path / f"{many}"])
        assert large["bytes"] - small["bytes"] < LIMIT * (many - few) + BUFFERS, step
