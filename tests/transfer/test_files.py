"""A file is there whole or not at all."""

import signal

from tests.death import die_at
from transfer import files


def test_a_file_is_old_or_new_whenever_the_writer_is_killed(tmp_path):
    path, seen = tmp_path / "state.json", []
    path.write_bytes(b"old")
    for step in range(9):
        status = die_at(step, lambda: files.write_atomic(path, b"brand new"))
        seen.append(path.read_bytes())
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step >= 3
    assert set(seen) <= {b"old", b"brand new"} and seen[-1] == b"brand new"


def test_writing_leaves_nothing_behind_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "plain.txt"
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["plain.txt"]
