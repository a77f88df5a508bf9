"""What a dataset takes in memory for each picture it has, measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory

LIMIT = 50  # bytes a picture


def peak(step, work):
    """Largest resident set of a step, bytes."""
    return memory.measured(step, work)["bytes"]


@pytest.fixture
def work(tmp_path):
    """Where scans of two sizes are made."""

    def made(items):
        folder = tmp_path / f"{items}"
        for name in ("source", "target"):
            memory.make(folder / name, items, name)
        return folder

    return made


def test_splitting_and_training_take_few_bytes_a_picture(work):
    small, large = 60_000, 200_000
    folders = work(small), work(large)
    for step in ("split", "train"):
        grown = peak(step, folders[1]) - peak(step, folders[0])
        assert grown < LIMIT * (large - small) + 2**21, step


@pytest.mark.slow
def test_five_million_pictures_are_split_and_trained_on_under_a_cap(tmp_path):
    """Without a picture the steps take some 400 MB; 5 million x 50 bytes are 250 MB more."""
    work, items = tmp_path, 5_000_000
    memory.make(work / "target", items, "target")
    for step in ("split target", "train"):
        assert peak(step, work) < 2**20 * 450 + LIMIT * items, step
