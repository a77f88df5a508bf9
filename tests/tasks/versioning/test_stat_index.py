"""An index never changes the md5 of a folder; it only saves reading files."""

import os
import random
import time
from pathlib import Path

import pytest

from tasks.versioning import stat_index
from tasks.versioning.dvc_md5 import fingerprint, fingerprint_files, of_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of files that were written long ago."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    for name in ("a/1", "a/2", "a-b/1", "b", "é\n"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
    monkeypatch.setattr(stat_index, "RACY", 0)
    time.sleep(0.02)
    return tmp_path / "data"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names, read = [], stat_index.StatIndex._read
    recording_read = lambda index, name, path: names.append(name) or read(index, name, path)  # noqa: E731
    monkeypatch.setattr(stat_index.StatIndex, "_read", recording_read)
    return names


def index_of():
    (file,) = Path("build/stat").glob("*.jsonl")
    return file


def test_an_unchanged_file_is_read_once(folder, reads):
    before = fingerprint(folder)
    assert sorted(reads) == ["a-b/1", "a/1", "a/2", "b", "é\n"]
    reads.clear()
    assert fingerprint(folder) == before == of_files(fingerprint_files(folder))
    assert reads == []


def test_a_changed_file_is_read_and_a_removed_one_is_dropped(folder, reads):
    fingerprint(folder)
    reads.clear()
    (folder / "b").write_bytes(b"c")
    (folder / "a" / "0").write_bytes(b"new")
    (folder / "a" / "2").unlink()
    time.sleep(0.02)
    md5s = fingerprint_files(folder)
    assert sorted(reads) == ["a/0", "b"]
    assert set(md5s) == {"a-b/1", "a/0", "a/1", "b", "é\n"}
    assert '"a/2"' not in index_of().read_text()


def test_a_change_that_keeps_size_and_time_is_detected(folder, reads):
    before, status = fingerprint(folder), (folder / "b").stat()
    (folder / "b").write_bytes(b"x")
    os.utime(folder / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(folder) != before


def test_a_file_written_just_now_is_read_again(folder, reads, monkeypatch):
    monkeypatch.setattr(stat_index, "RACY", 10**10)
    fingerprint(folder)
    reads.clear()
    fingerprint(folder)
    assert len(reads) == 5


@pytest.mark.parametrize("damage", [b"", b"[", b'["b", [1, 2, 3, 4, 5], "0"]\n', None])
def test_a_damaged_index_is_written_again(folder, reads, damage):
    before = fingerprint(folder)
    content = index_of().read_bytes()
    wrong = content.replace(b'"b"', b'"c"') if damage is None else damage
    index_of().write_bytes(wrong)
    reads.clear()
    assert fingerprint(folder) == before
    assert len(reads) == 5
    assert index_of().read_bytes() == content


def test_an_index_is_complete_or_absent_and_no_file_is_left(folder):
    walk = iter(fingerprint_files(folder))
    next(walk)
    fingerprint(folder)
    assert [f.name.endswith(".jsonl") for f in os.scandir("build/stat")] == [True]


def test_random_changes_are_detected(folder):
    rng = random.Random(0)
    for turn in range(30):
        path = folder / rng.choice("ab") / rng.choice(["1", "2", "x", "y/z"])
        try:
            if rng.random() < 0.3:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes([turn]))
        except OSError:
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)  # where no index can be kept
            expected = fingerprint(folder)
        assert fingerprint(folder) == expected


def test_no_index_is_written_outside_a_project(folder, monkeypatch):
    monkeypatch.chdir(folder)
    fingerprint(folder)
    assert not (folder / "build").exists()
