"""A file is there whole or not at all."""

import errno
import os
import signal

import pytest

from tests.death import die_at
from transfer.core import atomic_files
from transfer.core.atomic_files import link_or_copy, settle


def test_a_file_is_old_or_new_whenever_the_writer_is_killed(tmp_path):
    path, seen = tmp_path / "state.json", []
    path.write_bytes(b"old")
    for step in range(9):
        status = die_at(step, lambda: atomic_files.write_atomic(path, b"brand new"))
        seen.append(path.read_bytes())
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step >= 3
    assert set(seen) <= {b"old", b"brand new"} and seen[-1] == b"brand new"


def test_writing_leaves_nothing_behind_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "plain.txt"
    atomic_files.write_atomic(path, b"one")
    atomic_files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["plain.txt"]


def test_a_file_settles_once_and_over_nothing(tmp_path):
    source, place = tmp_path / "new", tmp_path / "deep/place"
    source.write_text("new")
    settle(source, place)
    settle(source, place)  # again, as after a kill
    assert (source.exists(), place.read_text()) == (False, "new")
    os.link(place, source)  # killed between the two halves of a move
    settle(source, place)
    assert (source.exists(), place.read_text()) == (False, "new")
    source.write_text("other")
    with pytest.raises(FileExistsError):
        settle(source, place)
    assert (source.read_text(), place.read_text()) == ("other", "new")
    with pytest.raises(FileNotFoundError):
        settle(tmp_path / "absent", tmp_path / "elsewhere")


def test_a_file_settles_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    source, place = tmp_path / "new", tmp_path / "place"
    source.write_text("new")
    settle(source, place)
    assert (source.exists(), place.read_text()) == (False, "new")
    source.write_text("other")
    with pytest.raises(FileExistsError):
        settle(source, place)
    link_or_copy(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == source.read_text() == "other"
