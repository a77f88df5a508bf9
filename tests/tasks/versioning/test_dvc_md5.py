import hashlib
import os
import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.versioning.dvc_md5 import fingerprint, fingerprint_files, of_bytes, of_files
from transfer.core.errors import DataRefusedError

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def write(root, name, content=b"x"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dvc_add(project, name, monkeypatch):
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project / "site"))
    for words in (["init", "--quiet", "--no-scm"], ["add", "--quiet", name]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=project, check=True)
    return yaml.safe_load((project / f"{name}.dvc").read_text())["outs"][0]


def test_a_folder_has_the_md5_that_dvc_gives_it(tmp_path, monkeypatch):
    names = [
        "a/1",
        "a-x/1",
        "a.b/1",
        "a/b/1",
        "a0",
        "Z",
        "z",
        "ä/é 日本.png",
        "日本/🙂",
        ".hid/.dot",
    ]
    names += ['a/with "quote"\\back', "a/mixed\u0301"]
    for name in names:
        write(tmp_path, f"data/{name}", name.encode())
    (tmp_path / "data" / "empty").mkdir()
    (tmp_path / "data" / "link").symlink_to("a0")
    write(tmp_path, "elsewhere/1")
    (tmp_path / "data" / "linked folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".dvcignore").write_text(".DS_Store\nThumbs.db\ndesktop.ini\n.*.partial\n")
    for name in (".DS_Store", "a/Thumbs.db", "a/desktop.ini", ".demo.partial", ".q.partial/1"):
        write(tmp_path, f"data/{name}")
    recorded = dvc_add(tmp_path, "data", monkeypatch)
    files = fingerprint_files(tmp_path / "data")
    assert fingerprint(tmp_path / "data") == recorded["md5"]
    assert set(files) == {*names, "link"}
    assert len(files) == recorded["nfiles"]


def test_a_file_has_the_md5_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    assert fingerprint(write(tmp_path, "a.npz", content)) == hashlib.md5(content).hexdigest()
    assert of_bytes(content) == hashlib.md5(content).hexdigest()


@given(st.dictionaries(PATHS, st.binary(max_size=4).map(of_bytes), max_size=8))
def test_a_list_of_files_has_the_md5_that_dvc_gives_it(files):
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for name, md5 in files.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    assert of_files(files) == tree.hash_info.value


def test_dvc_ignores_the_files_that_a_fingerprint_leaves_out(pytestconfig, tmp_path):
    from dvc.ignore import DvcIgnorePatterns
    from dvc.repo import Repo

    assert Repo.DVC_DIR == ".dvc"
    lines = (pytestconfig.rootpath / ".dvcignore").read_text().splitlines()
    patterns = DvcIgnorePatterns([line for line in lines if line[:1] != "#"], str(tmp_path), os.sep)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".x.partial", "a.png", ".hid", "partial"):
        write(tmp_path / "data", name)
        kept = patterns(str(tmp_path / "data"), [], [name])[1] == [name]
        assert kept == (name in fingerprint_files(tmp_path / "data"))


def test_unreadable_files_are_listed_and_never_block(tmp_path):
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint_files(tmp_path) == {"broken": "", "loop": "", "pipe": ""}
    before = fingerprint(tmp_path)
    (tmp_path / "nowhere").write_bytes(b"now there")
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("name", ["missing", "pipe"])
def test_a_missing_dataset_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataRefusedError, match=name):
        fingerprint(tmp_path / name)


def test_thousands_of_small_files_take_less_than_half_a_second(tmp_path):
    for number in range(2000):
        write(tmp_path, f"{number % 10}/{number}.png", bytes(900))
    started = time.process_time()
    fingerprint(tmp_path)
    assert time.process_time() - started < 0.45  # 1.5 s for 6,800
