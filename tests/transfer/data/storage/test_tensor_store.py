"""Pictures on disk are those of the scan, whatever is asked for and in whatever order."""

import json
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.core.errors import DataRefusedError
from transfer.data.storage import tensor_store
from transfer.data.storage.tensor_store import DiskRecords, cat, content, on_disk, some, taken

SHAPE = (3, 4, 5)


def write(folder, n, seed=0):
    """A scan's records (n, 3, 4, 5)."""
    folder.mkdir()
    made = np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    (folder / "records.bin").write_bytes(made.tobytes())
    (folder / "scan.json").write_text(json.dumps({"shape": [n, *SHAPE], "dtype": "uint8"}))
    return torch.from_numpy(made)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    return [(write(root / f"{n}", n, n), on_disk(root / f"{n}")) for n in (40, 7)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 39), max_size=30), st.data())
def test_rows_are_those_of_a_tensor(scans, rows, draw):
    tensor, disk = scans[0]
    chosen, kept = disk.take(np.array(rows, np.int32)), tensor[rows]
    assert chosen.shape == kept.shape and len(chosen) == len(kept)
    assert torch.equal(chosen[:], kept)
    again = draw.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    positions = torch.tensor(again, dtype=torch.long)
    assert torch.equal(chosen[positions], kept[positions])
    assert torch.equal(chosen.take(np.array(again, np.int64))[:], kept[positions])


@pytest.mark.parametrize("rows", [slice(0), slice(1), slice(None), slice(3, 30, 4), slice(38, 99)])
def test_slices_are_those_of_a_tensor(scans, rows):
    tensor, disk = scans[0]
    assert torch.equal(disk[rows], tensor[rows])


def test_booleans_choose_and_parts_follow_one_another(scans):
    tensor, disk = scans[0]
    rows = torch.arange(40) % 3 == 0
    assert torch.equal(disk[rows], tensor[rows])
    parts = list(disk.split(11))
    assert [len(part) for part in parts] == [11, 11, 11, 7]
    assert torch.equal(torch.cat(parts), tensor)


def test_several_sets_are_one_whether_on_disk_or_in_memory(scans):
    (first, disk), (other, small) = scans
    expected = torch.cat([other, first, other])
    records = cat([small.take(np.arange(7, dtype=np.int32)), first, small])
    assert isinstance(records, DiskRecords)
    assert torch.equal(records[:], expected)
    rows = torch.tensor([53, 0, 7, 46, 6, 47])
    assert torch.equal(records[rows], expected[rows])
    assert torch.equal(cat([records, disk])[:], torch.cat([expected, first]))
    assert isinstance(cat([first, other]), torch.Tensor)


def test_few_are_kept_in_memory_and_many_are_not(tmp_path, monkeypatch):
    made = write(tmp_path / "scan", 12)
    rows = np.array([2, 3, 11])
    assert torch.equal(some(tmp_path / "scan", rows), made[rows])
    monkeypatch.setattr(tensor_store, "IN_MEMORY", 3 * 60 - 1)
    records = some(tmp_path / "scan", rows)
    assert isinstance(records, DiskRecords)
    assert torch.equal(records[:], made[rows])
    assert torch.equal(taken(records, np.array([2]))[:], made[[11]])


def test_a_digest_tells_rows_and_files_apart(tmp_path, scans):
    (tensor, disk), (_, other) = scans
    rows = np.arange(5)
    write(tmp_path / "40", 40, 40)
    different = [disk, disk.take(rows), disk.take(rows[::-1]), other, on_disk(tmp_path / "40")]
    assert len({content(records) for records in different}) == len(different)
    assert content(disk.take(rows)) == content(disk.take(rows))
    assert content(tensor) != content(tensor[1:])


def test_threads_read_at_the_same_time(scans):
    tensor, disk = scans[0]
    wrong = []

    def read(seed):
        for rows in torch.randint(40, (200, 9), generator=torch.Generator().manual_seed(seed)):
            if not torch.equal(disk[rows], tensor[rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_that_became_shorter_is_refused(tmp_path):
    write(tmp_path / "scan", 12)
    disk = on_disk(tmp_path / "scan")
    with (tmp_path / "scan" / "records.bin").open("r+b") as file:
        file.truncate(60)
    with pytest.raises(DataRefusedError, match=r"records\.bin ends before row 11; scan it again"):
        disk[torch.tensor([0, 11])]
    with pytest.raises(DataRefusedError, match="has 60 bytes; expected 720"):
        on_disk(tmp_path / "scan")
    with pytest.raises(DataRefusedError, match="holds no scan"):
        on_disk(tmp_path)
