"""What a picture takes in memory, measured as the peak of a process of its own."""

import pytest

from benchmarks import memory

LIMIT = 50  # bytes a picture


def test_splitting_and_loading_take_few_bytes_a_picture(tmp_path):
    sizes = 70_000, 270_000
    folders = [tmp_path / f"{items}" for items in sizes]
    for folder, items in zip(folders, sizes, strict=True):
        memory.make(folder / "target", items, "target")
    small, large = memory.measured(["split target", "load"], folders)
    grown = large["bytes"] - small["bytes"]
    assert grown < LIMIT * (sizes[1] - sizes[0])


@pytest.mark.slow
def test_five_million_pictures_are_split_and_trained_on_under_a_cap(tmp_path):
    few, many = 100_000, 5_000_000
    for items in (few, many):
        memory.make(tmp_path / f"{items}" / "target", items, "target")
    for step in ("split target", "train"):
        (small,) = memory.measured([step], [tmp_path / f"{few}"])
        (large,) = memory.measured([step], [tmp_path / f"{many}"])
        assert large["bytes"] - small["bytes"] < LIMIT * (many - few), step
