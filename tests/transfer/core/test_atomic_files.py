"""A file is complete or absent, whenever its writer is killed."""

import errno
import os
import signal

import pytest

from tests.death import die_at
from transfer.core import atomic_files
from transfer.core.atomic_files import link_or_copy, move_without_overwriting


def test_a_file_is_old_or_new_whenever_the_writer_is_killed(tmp_path):
    path, contents = tmp_path / "state.json", []
    path.write_bytes(b"old")
    for step in range(9):
        status = die_at(step, lambda: atomic_files.write_atomic(path, b"brand new"))
        contents.append(path.read_bytes())
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step >= 3
    assert set(contents) <= {b"old", b"brand new"} and contents[-1] == b"brand new"


def test_writing_leaves_nothing_behind_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "plain.txt"
    atomic_files.write_atomic(path, b"first")
    atomic_files.write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["plain.txt"]


def test_a_file_is_moved_once_and_never_over_another(tmp_path):
    source, destination = tmp_path / "new", tmp_path / "deep/destination"
    source.write_text("new")
    move_without_overwriting(source, destination)
    move_without_overwriting(source, destination)  # again, as after a kill
    assert (source.exists(), destination.read_text()) == (False, "new")
    os.link(destination, source)  # killed between the two halves of a move
    move_without_overwriting(source, destination)
    assert (source.exists(), destination.read_text()) == (False, "new")
    source.write_text("other")
    with pytest.raises(FileExistsError):
        move_without_overwriting(source, destination)
    assert (source.read_text(), destination.read_text()) == ("other", "new")
    with pytest.raises(FileNotFoundError):
        move_without_overwriting(tmp_path / "absent", tmp_path / "elsewhere")


def test_a_file_is_moved_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    source, destination = tmp_path / "new", tmp_path / "destination"
    source.write_text("new")
    move_without_overwriting(source, destination)
    assert (source.exists(), destination.read_text()) == (False, "new")
    source.write_text("other")
    with pytest.raises(FileExistsError):
        move_without_overwriting(source, destination)
    link_or_copy(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == source.read_text() == "other"
