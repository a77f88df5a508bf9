import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks.versioning import data_dvc, dataset_versions, demo_data
from tasks.versioning.dvc_md5 import fingerprint, fingerprint_files, of_files
from transfer.core.errors import CrosstrainError, DataRefusedError


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    """A project whose data folder was recorded by `accept`."""
    project = tmp_path_factory.mktemp("accepted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
        data_dvc.dvc(project, "init", "--quiet")
        for name in ("plants/Ahorn/1", "plants/Ahorn/2", "plants/béla/1", "animals/cat/1"):
            write(project, name)
        write(project, "points.npz")
        dataset_versions.accept(project / "data.dvc")
        yield project


@pytest.fixture
def project(accepted, tmp_path, monkeypatch):
    shutil.copytree(accepted, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def write(project, name, content=b""):
    path = project / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or name.encode())


def refusal(project, dataset="data/plants"):
    with pytest.raises(DataRefusedError) as refused:
        dataset_versions.verify(project / dataset, project / "data.dvc")
    return str(refused.value)


def test_accept_records_each_dataset_and_keeps_the_rest_of_the_file(project):
    tree = yaml.safe_load((project / "data.dvc").read_text())
    names = {"plants", "animals", "points.npz"}
    assert tree["meta"]["of"] == tree["outs"][0]["md5"] == fingerprint(project / "data")
    assert tree["meta"]["datasets"] == {n: fingerprint(project / "data" / n) for n in names}
    (project / "data.dvc").write_text(
        yaml.safe_dump(tree | {"desc": "ours", "meta": tree["meta"] | {"owner": "me"}})
    )
    write(project, "plants/Ahorn/3")
    datasets = dataset_versions.accept(project / "data.dvc")
    tree = yaml.safe_load((project / "data.dvc").read_text())
    assert (tree["desc"], tree["meta"]["owner"]) == ("ours", "me")
    assert tree["meta"]["datasets"] == datasets
    assert (
        dataset_versions.verify(project / "data/plants", project / "data.dvc") == datasets["plants"]
    )


def test_accepting_the_recorded_version_changes_no_byte(project):
    before = (project / "data.dvc").read_bytes()
    dataset_versions.accept(project / "data.dvc")
    assert (project / "data.dvc").read_bytes() == before


def test_recorded_new_and_outside_datasets_pass(project, tmp_path):
    write(project, "stones/1")
    (tmp_path / "far").mkdir()
    for path in (project / "data/plants", project / "data/stones", tmp_path / "far"):
        assert dataset_versions.verify(path, project / "data.dvc") == fingerprint(path)
    assert dataset_versions.verify(project / "data", tmp_path / "no.dvc") == fingerprint(
        project / "data"
    )


def test_a_refusal_names_what_changed_and_what_to_do(project):
    expected = fingerprint(project / "data/plants")
    write(project, "plants/Ahorn/1", b"changed")
    (project / "data/plants/Ahorn/2").unlink()
    for number in range(7):
        write(project, f"plants/new/{number}")
    message = refusal(project)
    assert f"found {fingerprint(project / 'data/plants')}, expected {expected}" in message
    assert "changed, 1: Ahorn/1\n" in message
    assert "missing, 1: Ahorn/2\n" in message
    assert "added, 7: new/0, new/1, new/2, new/3, new/4 ...\n" in message
    assert "dvc checkout --force" in message
    assert "crosstrain data accept" in message
    assert dataset_versions.verify(project / "data/animals", project / "data.dvc")


def test_the_command_in_a_refusal_restores_the_dataset(project):
    write(project, "plants/Ahorn/1", b"changed")
    write(project, "stones/1")
    refusal(project)
    data_dvc.dvc(project, "checkout", "--force", "data/plants")
    assert dataset_versions.verify(project / "data/plants", project / "data.dvc")
    assert (project / "data/stones/1").exists()


def test_a_refusal_without_a_cache_also_states_what_to_do(project):
    write(project, "points.npz", b"changed")
    write(project, "plants/Ahorn/1", b"changed")
    shutil.rmtree(project / ".dvc/cache")
    assert "dvc pull" in refusal(project)
    assert "dvc pull" in refusal(project, "data/points.npz")


def test_changes_to_demo_data_are_named_without_a_cache(tmp_path):
    for name, content in demo_data.image_files("digits"):
        write(tmp_path, f"digits/{name}", content)
    md5 = of_files(fingerprint_files(tmp_path / "data/digits"))
    tree = {
        "outs": [{"md5": "m", "path": "data"}],
        "meta": {"of": "m", "datasets": {"digits": md5}},
    }
    (tmp_path / "data.dvc").write_text(yaml.safe_dump(tree))
    write(tmp_path, "digits/0/00000.png", b"changed")
    message = refusal(tmp_path, "data/digits")
    assert "changed, 1: 0/00000.png\n" in message
    assert "crosstrain data write" in message


@pytest.mark.parametrize("path", ["data/plants/Ahorn", "data/../data/plants", "link"])
def test_the_whole_dataset_is_verified_for_any_path_to_it(project, path):
    (project / "link").symlink_to(project / "data/plants")
    assert dataset_versions.verify(project / path, project / "data.dvc") == fingerprint(
        project / path
    )
    recorded = data_dvc.read(project / "data.dvc")
    wrong = dataclasses.replace(recorded, datasets={"plants": "other", "animals": "other"})
    assert list(dataset_versions._recorded(project / path, wrong)) == [project / "data/plants"]
    assert len(dataset_versions._recorded(project / "data", wrong)) == 2


def test_data_recorded_by_a_dvc_command_is_refused(project):
    write(project, "plants/Ahorn/1", b"changed")
    data_dvc.dvc(project, "commit", "--force", "data.dvc")
    message = refusal(project, "data/animals")
    assert "differ from the recorded ones: plants\n" in message
    data_dvc.dvc(project, "add", "data")
    assert refusal(project) == message
    dataset_versions.accept(project / "data.dvc")
    assert dataset_versions.verify(project / "data/plants", project / "data.dvc")


def test_verify_all_checks_the_used_datasets_or_all_recorded_ones(project):
    write(project, "stones/1")
    used = [Path("data/stones"), Path("data/plants"), Path("data/stones")]
    assert list(dataset_versions.verify_all(Path("data.dvc"), used)) == [
        "data/stones",
        "data/plants",
    ]
    assert list(dataset_versions.verify_all(Path("data.dvc"))) == [
        "data/animals",
        "data/plants",
        "data/points.npz",
    ]
    write(project, "animals/cat/1", b"changed")
    assert dataset_versions.verify_all(Path("data.dvc"), used)
    with pytest.raises(DataRefusedError, match="animals"):
        dataset_versions.verify_all(Path("data.dvc"))


def test_a_manifest_stands_for_its_folder(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/1.png").write_bytes(b"1")
    manifest = tmp_path / "set/list.csv"
    manifest.write_text("path,label\n1.png,a\n")
    before = dataset_versions.verify(manifest, tmp_path / "data.dvc")
    assert before == fingerprint(tmp_path / "set")
    (tmp_path / "set/1.png").write_bytes(b"2")
    assert dataset_versions.verify(manifest, tmp_path / "data.dvc") != before


@pytest.mark.parametrize(
    "text", ["", "a: [", "outs: []", "outs:\n- path: data", "<<<<<<< HEAD\nouts: 1", "- 1"]
)
def test_a_damaged_data_dvc_is_refused(project, text):
    (project / "data.dvc").write_text(text)
    assert "is not a valid record of data" in refusal(project)


def test_missing_data_is_refused(project):
    shutil.rmtree(project / "data/plants")
    assert "there is no dataset at" in refusal(project)
    with pytest.raises(DataRefusedError, match="plants"):
        dataset_versions.verify_all(project / "data.dvc")
    shutil.rmtree(project / "data")
    with pytest.raises(DataRefusedError, match="there is no dataset at"):
        dataset_versions.accept(project / "data.dvc")


def test_accept_refuses_files_at_which_dvc_hangs(project):
    os.mkfifo(project / "data/pipe")
    (project / "data/broken").symlink_to("nowhere")
    with pytest.raises(DataRefusedError, match=r"2 of its files.*: broken, pipe; "):
        dataset_versions.accept(project / "data.dvc")


def test_accept_reports_the_error_of_dvc(project):
    shutil.rmtree(project / ".dvc")
    with pytest.raises(CrosstrainError, match="not inside of a DVC repository"):
        dataset_versions.accept(project / "data.dvc")


def test_accept_refuses_a_dvcignore_that_hides_data(project):
    (project / ".dvcignore").write_text("Ahorn\n")
    with pytest.raises(CrosstrainError, match="dvcignore excludes"):
        dataset_versions.accept(project / "data.dvc")
