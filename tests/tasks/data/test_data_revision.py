"""Data of an older revision, with the real DVC and Git, from the cache and from a remote."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.data import data_revision
from tasks.data.data_revision import PLACE, resolve
from tasks.versioning import data_dvc, dataset_versions
from transfer.core.errors import DataRefusedError
from transfer.settings.project import DatasetSettings

DVC = Path("data.dvc")


def git(*words):
    subprocess.run(["git", *words], capture_output=True, text=True, check=True)


def write(name, content=""):
    path = Path("data") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or name)


def fetch(path, revision):
    return data_revision.fetch.fn(DatasetSettings(path=Path(path)), resolve(revision))


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "tester")
            patch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
        yield


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A project with two versions of its data, both pushed, and the md5s of each version."""
    project, recorded = tmp_path_factory.mktemp("versions"), {}
    with contextlib.chdir(project):
        git("init", "--quiet")
        data_dvc.dvc(Path(), "init", "--quiet")
        data_dvc.dvc(Path(), "remote", "add", "--default", "store", str(project.parent / "store"))
        for name in ("plants/rose/1", "plants/oak/1", "animals/cat/1", "list/img/1.png"):
            write(name)
        write("list/items.csv", "path,label\nimg/1.png,a\n")
        write("points.npz")
        for tag in ("v1", "v2"):
            if tag == "v2":
                write("plants/rose/2")
                write("points.npz", "changed")
                shutil.rmtree("data/animals")
            recorded[tag] = dataset_versions.accept(DVC), data_dvc.read(DVC).md5
            data_dvc.dvc(Path(), "push")
            git("add", "--all")
            git("commit", "--quiet", "--message", tag)
            git("tag", tag)
    return project, recorded


@pytest.fixture
def project(versions, tmp_path, monkeypatch):
    shutil.copytree(versions[0], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return versions[1]


@pytest.mark.parametrize("named", ["v1", "HEAD~1", "md5", "md5.dir"])
def test_a_revision_is_restored_beside_the_workspace(project, named):
    datasets, md5 = project["v1"]
    before = dataset_versions.fingerprint(Path("data")), DVC.read_bytes()
    revision = {"md5": md5.removesuffix(".dir"), "md5.dir": md5}.get(named, named)
    dataset = fetch("data/plants", revision)
    assert (dataset.name, dataset.md5) == ("plants", datasets["plants"])
    assert dataset.path == PLACE / dataset.md5.removesuffix(".dir") / "plants"
    assert dataset_versions.fingerprint(dataset.path) == dataset.md5
    assert dataset.revision.startswith(
        named.removesuffix(".dir") if named in ("v1", "HEAD~1") else md5[:32]
    )
    assert (dataset_versions.fingerprint(Path("data")), DVC.read_bytes()) == before
    assert not (dataset.path / "rose/2").exists()


def test_every_format_of_dataset_has_its_own_path(project):
    current = fetch("data/points.npz", "v2")
    old = fetch("data/points.npz", "v1")
    assert (current.path.read_text(), old.path.read_text()) == ("changed", "points.npz")
    assert old.md5 == project["v1"][0]["points.npz"]
    assert old.path.name == "points.npz"
    table = fetch("data/list/items.csv", "v1")
    assert table.md5 == project["v1"][0]["list"]
    assert (table.path.parent / "img/1.png").exists()
    deep = fetch("data/plants/rose", "v1")
    assert deep.md5 == dataset_versions.fingerprint(
        Path("build/data") / deep.path.parts[2] / "plants/rose"
    )


def test_a_manifest_in_the_data_folder_restores_the_whole_folder(project):
    write("all.csv", "path,label\nlist/img/1.png,a\n")
    dataset_versions.accept(DVC)
    git("commit", "--quiet", "--all", "--message", "v3")
    dataset = fetch("data/all.csv", "HEAD")
    assert dataset.md5 == data_dvc.read(DVC).md5
    assert (dataset.path.parent / "plants/rose/2").exists()


def test_files_missing_in_the_cache_come_from_the_remote(project):
    shutil.rmtree(".dvc/cache")
    dataset = fetch("data/plants", "v1")
    assert dataset.md5 == project["v1"][0]["plants"]
    shutil.rmtree(".dvc/cache")
    assert fetch("data/plants", "v1") == dataset  # the list is fetched again, the files are not
    damaged = dataset.path / "rose/1"
    damaged.chmod(0o644)
    damaged.write_text("damaged")
    assert dataset_versions.fingerprint(fetch("data/plants", "v1").path) == dataset.md5


def test_files_missing_everywhere_are_named(project):
    shutil.rmtree(".dvc/cache")
    data_dvc.dvc(Path(), "remote", "modify", "store", "url", str(Path("nowhere").absolute()))
    with pytest.raises(DataRefusedError, match=r"1 of 1 files are not in DVC's cache.*push"):
        fetch("data/plants", "v1")
    data_dvc.dvc(Path(), "remote", "remove", "store")
    with pytest.raises(DataRefusedError, match="no remote specified"):
        fetch("data/plants", "v1")
    assert not [p for p in PLACE.glob("*") if p.is_dir()]


def test_a_damaged_cache_is_named(project):
    file = data_dvc.cached(
        Path(".dvc/cache"), dataset_versions.fingerprint(Path("data/plants/rose/1"))
    )
    file.chmod(0o644)
    file.write_text("damaged")
    with pytest.raises(DataRefusedError, match=r"DVC's cache is damaged: 1 files of plants"):
        fetch("data/plants", "v1")
    assert not [p for p in PLACE.glob("*") if p.is_dir() and not p.name.startswith(".")]


def test_unknown_revisions_and_datasets_are_named(project, monkeypatch, tmp_path):
    with pytest.raises(DataRefusedError, match="'v9' is no revision that Git knows"):
        resolve("v9")
    with pytest.raises(DataRefusedError, match="is no revision that Git knows"):
        resolve("--help")
    with pytest.raises(DataRefusedError, match="it contains animals, list, plants, points"):
        fetch("data/stones", "v1")
    with pytest.raises(DataRefusedError, match=r"data/animals is not in the data of v2"):
        fetch("data/animals", "v2")
    git("rm", "--quiet", "--cached", "data.dvc")
    git("commit", "--quiet", "--message", "without")
    with pytest.raises(DataRefusedError, match=r"there is no data\.dvc in the revision"):
        resolve("HEAD")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataRefusedError, match="is no revision that Git knows here"):
        resolve("v1")


def test_data_outside_the_data_folder_is_used_unchanged(project, tmp_path):
    (tmp_path / "far/rose").mkdir(parents=True)
    (tmp_path / "far/rose/1").write_text("1")
    dataset = fetch(tmp_path / "far", "v1")
    assert (dataset.path, dataset.revision) == (tmp_path / "far", "")
