"""New data with the real DVC and Git: added completely or not at all, also after a kill."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.data import ingest
from tasks.versioning import data_dvc, dataset_versions, ingest_journal
from tasks.versioning import git as commits
from tests.death import die_at
from tests.transfer import tiny
from transfer.core.errors import CrosstrainError, DataRefusedError, SettingsError
from transfer.data.manifest import Manifest
from transfer.data.scan import survey
from transfer.data.splits.split import SplitSettings, split
from transfer.settings.project import Settings

DVC = Path("data.dvc")


def SLOW(value):  # noqa: N802
    return pytest.param(value, marks=pytest.mark.slow)


SETTINGS = Settings.model_validate({"validate": {"min_items_per_class": 1}})


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)


def write_images(folder, seeds):
    for name, seed in seeds.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(seed)).save(path)


def digest(seed):
    content = io.BytesIO()
    Image.fromarray(image(seed)).save(content, "PNG")
    return f"{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.png"


def git(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "tester")
            patch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two datasets, recorded and committed."""
    project = tmp_path_factory.mktemp("recorded")
    with contextlib.chdir(project):
        git("init", "--quiet")
        data_dvc.dvc(Path(), "init", "--quiet")
        write_images("data/plants", {f"rose/{n}.png": n for n in range(6)})
        write_images("data/plants", {f"oak/{n}.png": 10 + n for n in range(6)})
        write_images("data/animals", {"cat/1.png": 30, "dog/1.png": 31})
        Path(".gitignore").write_text("/build\n/reports\n/quarantine\n")
        dataset_versions.accept(DVC)
        git("add", "--all")
        git("commit", "--quiet", "--message", "first")
    return project


@pytest.fixture
def project(recorded, tmp_path, monkeypatch):
    shutil.copytree(recorded, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def new(tmp_path):
    """Two new images, one of them with an existing name; a known image; a known image with another
    label; a file that is not an image."""
    folder = tmp_path / "new"
    write_images(folder, {"rose/1.png": 50, "oak/x.png": 51, "rose/y.png": 2, "oak/z.png": 3})
    (folder / "oak/bad.png").write_bytes(b"\x89PNG")
    return folder


def begin(source, dataset="plants", settings=SETTINGS, **more):
    """Run an ingest up to the journal."""
    options = ingest.IngestOptions(**more)
    place = ingest.prepare.fn(dataset, options)
    return ingest.plan.fn(ingest.receive.fn(source, settings), place, options, settings)


def complete():
    """Complete an ingest from its journal."""
    ingest.carry_out.fn()
    ingest.accept.fn()
    changes, failed = ingest.share.fn()
    ingest.finish.fn(changes)
    return changes, failed


def take(source, dataset="plants", settings=SETTINGS, **options):
    with ingest.exclusive():
        changes = begin(source, dataset, settings, **options)
        return complete()[0] if changes.taken else changes


def labels(dataset="data/plants"):
    table, _ = survey(Path(dataset), SETTINGS.input.limits, tiny.MODALITY)
    return dict(zip(table["content"], table["label"], strict=True))


def ids(changes):
    return [item.id for item in changes.added]


def test_new_items_are_added_and_recorded_as_a_version(project, new):
    before = dataset_versions.verify_all(DVC)
    changes = take(new)
    after = dataset_versions.verify_all(DVC)
    assert (changes.before, changes.after) == (before["data/plants"], after["data/plants"])
    assert changes.before != changes.after
    assert after["data/animals"] == before["data/animals"]
    assert (ids(changes)[0], ids(changes)[1][:7]) == ("oak/x.png", "rose/1-")
    assert [(entry.path, entry.of) for entry in changes.duplicates] == [
        ("rose/y.png", "rose/2.png")
    ]
    assert [(entry.path, entry.stands_under) for entry in changes.conflicts] == [
        ("oak/z.png", "rose")
    ]
    assert [(entry.path, entry.reason) for entry in changes.rejects] == [
        ("oak/bad.png", "unreadable")
    ]
    assert np.array_equal(np.asarray(Image.open("data/plants/rose/1.png")), image(1))
    assert changes.classes["rose"].after == 7
    report = json.loads(ingest.REPORT.read_text())
    assert report == changes.model_dump(mode="json")
    assert not ingest_journal.work(Path("data")).exists()
    assert sorted(p.name for p in new.rglob("*.png")) == [
        "1.png",
        "bad.png",
        "x.png",
        "y.png",
        "z.png",
    ]

    folder = Path(changes.quarantine)
    assert (folder / "files/oak/bad.png").read_bytes() == b"\x89PNG"
    assert (folder / "rejects.csv").read_text().splitlines() == [
        "path,reason,detail",
        "oak/bad.png,unreadable,its header is damaged",
    ]


def test_no_rejected_name_escapes_the_quarantine(project, tmp_path):
    (tmp_path / "project/secret.png").write_bytes(b"secret")
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as made:
        made.writestr("../../../secret.png", b"evil")
        made.writestr("/etc/passwd", b"evil")
    lenient = SETTINGS.model_copy(
        update={"ingest": SETTINGS.ingest.model_copy(update={"max_reject_share": 1.0})}
    )
    write_images(tmp_path / "more", {"rose/9.png": 60})
    with zipfile.ZipFile(tmp_path / "new.zip", "a") as made:
        made.write(tmp_path / "more/rose/9.png", "rose/9.png")
    changes = take(tmp_path / "new.zip", settings=lenient)
    assert [entry.reason for entry in changes.rejects] == ["path_escape", "path_escape"]
    assert [p.name for p in Path("quarantine").rglob("*") if p.is_file()] == ["rejects.csv"]
    assert Path("secret.png").read_bytes() == b"secret"


def test_labels_are_corrected_on_request_and_the_same_delivery_is_not_new(project, new, tmp_path):
    known = labels()
    first = take(new, relabel=True)
    assert [(entry.was, entry.id) for entry in first.relabelled] == [
        ("rose/3.png", f"oak/3-{digest(3)}")
    ]
    assert first.conflicts == []
    assert [labels()[p] for p in known if labels()[p] != known[p]] == ["oak"]
    assert dataset_versions.verify(Path("data/plants"), DVC) == first.after
    recorded = DVC.read_bytes()
    packed = shutil.make_archive(str(tmp_path / "again"), "gztar", tmp_path, "new")
    again = take(Path(packed), relabel=True)
    assert not again.taken
    assert again.digest == first.digest
    assert DVC.read_bytes() == recorded
    assert len(again.duplicates) == 4


@pytest.mark.slow
def test_a_replacing_delivery_removes_missing_items(project, tmp_path):
    write_images(tmp_path / "whole", {"rose/a.png": 0, "rose/b.png": 70, "oak/c.png": 10})
    changes = take(tmp_path / "whole", replace=True)
    assert len(changes.removed) == 10
    files = sorted(
        p.relative_to("data/plants").as_posix() for p in Path("data/plants").rglob("*.png")
    )
    assert files == ["oak/0.png", "rose/0.png", "rose/b.png"]
    assert dataset_versions.verify(Path("data/plants"), DVC) == changes.after


def test_a_new_class_is_added_only_on_request(project, tmp_path):
    write_images(tmp_path / "new", {"rose/a.png": 70, "tulip/b.png": 71})
    with pytest.raises(DataRefusedError, match=r"1 of 2 .* --new-classes takes new classes"):
        take(tmp_path / "new")
    changes = take(tmp_path / "new", new_classes=True)
    assert ids(changes) == ["rose/a.png", "tulip/b.png"]


def test_a_delivery_with_too_many_rejects_is_refused_completely(project, new):
    for n in range(4):
        (new / f"rose/bad{n}.png").write_bytes(b"GIF89a")
    before = dataset_versions.fingerprint(Path("data"))
    with pytest.raises(DataRefusedError, match=r"5 of 9 files in new cannot be used"):
        take(new)
    assert dataset_versions.fingerprint(Path("data")) == before
    report = json.loads(ingest.REPORT.read_text())
    assert report["refused"].startswith("5 of 9 files")
    assert not report["taken"]
    assert len(list(Path(report["quarantine"]).rglob("*.png"))) == 5
    assert dataset_versions.verify_all(DVC)


@pytest.mark.parametrize("make", [SLOW("folder"), "manifest", "arrays"])
def test_a_new_dataset_has_the_format_of_the_delivery(project, tmp_path, make):
    source = tmp_path / "new"
    write_images(source, {"rose/a.png": 70, "oak/b.png": 71})
    place = Path("data/stones")
    if make == "manifest":
        (source / "list.csv").write_text("path,label,group\nrose/a.png,x,g\noak/b.png,y,g\n")
    if make == "arrays":
        source, place = tmp_path / "new.npz", Path("data/stones.npz")
        images = np.stack([image(70), image(71)])
        np.savez(source, images=images, labels=[0, 1], class_names=["x", "y"])
    changes = take(source, "stones")
    assert (changes.dataset, changes.before, len(changes.added)) == ("stones", "", 2)
    read_by = place / "list.csv" if make == "manifest" else place
    expected = {"rose", "oak"} if make == "folder" else {"x", "y"}
    assert set(labels(read_by).values()) == expected
    assert dataset_versions.verify(read_by, DVC) == changes.after
    assert not take(source, "stones").taken


def test_another_format_is_refused(project, tmp_path):
    np.savez(tmp_path / "new.npz", images=image(99)[None], labels=[0], class_names=["rose"])
    with pytest.raises(DataRefusedError, match="expected the same format"):
        take(tmp_path / "new.npz")
    assert dataset_versions.verify_all(DVC)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "data/plants"])
def test_an_invalid_dataset_name_is_refused(project, new, name):
    with pytest.raises(SettingsError, match="--dataset is"):
        take(new, name)


def test_data_that_differs_is_refused_before_anything_is_read(project, new):
    Path("data/animals/cat/1.png").write_bytes(b"!")
    with pytest.raises(DataRefusedError, match="animals is not the version"):
        take(new)


def test_without_dvc_a_delivery_is_refused(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="not a DVC repository"):
        take(new)


def test_a_commit_contains_only_data_dvc_and_names_the_changes(project, new):
    Path("other.txt").write_text("staged by hand")
    git("add", "other.txt")
    changes = take(new, commit=True)
    assert changes.commit == git("rev-parse", "HEAD")
    assert git("show", "--name-only", "--format=%s") == (
        "Ingest new into plants: 2 added, 1 duplicates, 1 conflicts, 1 rejected\n\ndata.dvc"
    )
    assert "rose: 1 added" in git("show", "--no-patch", "--format=%b")
    assert git("diff", "--cached", "--name-only") == "other.txt"


@pytest.mark.slow
def test_a_first_commit_takes_dvcs_own_line_of_gitignore_along(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "p")
    monkeypatch.chdir(tmp_path / "p")
    data_dvc.dvc(Path(), "init", "--quiet")
    git("commit", "--quiet", "--message", "empty")
    changes = take(new, "plants", settings=SETTINGS, commit=True)
    assert changes.commit
    assert git("show", "--name-only", "--format=").splitlines() == [".gitignore", "data.dvc"]


def test_an_impossible_commit_or_push_is_reported_first(project, new, monkeypatch, tmp_path):
    Path(".gitignore").write_text("data.dvc\n")
    git("rm", "--quiet", "--cached", "data.dvc")
    with pytest.raises(SettingsError, match=r"Git ignores data\.dvc"):
        take(new, commit=True)
    with pytest.raises(SettingsError, match="no DVC remote"):
        take(new, push=True)
    assert not (Path("data/plants/oak/x.png")).exists()


def test_a_commit_that_fails_leaves_the_ingest_finished(project, new):
    hook = Path(".git/hooks/pre-commit")
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    begin(new, commit=True)
    _, failed = complete()
    assert "the data is in data/plants and recorded, but `git commit` failed: not today" in failed
    assert dataset_versions.verify_all(DVC)


def test_pushed_data_comes_back_from_the_remote(project, new, tmp_path):
    data_dvc.dvc(Path(), "remote", "add", "--default", "store", str(tmp_path / "store"))
    changes = take(new, push=True)
    assert changes.pushed
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data")
    data_dvc.dvc(Path(), "pull")
    assert dataset_versions.verify_all(DVC)["data/plants"] == changes.after


def divide(dataset):
    table, _ = survey(Path(dataset), SETTINGS.input.limits, tiny.MODALITY)
    names = tuple(sorted(set(table["label"])))
    numbered = table.assign(label=[names.index(label) for label in table["label"]])
    manifest = Manifest("plants", "image", names, numbered)
    frame = split(manifest, SplitSettings(), labels_per_class=None, merge_val=False)
    return dict(zip(table["content"], frame["split"], strict=True))


def test_no_item_changes_its_split(project, tmp_path):
    before = divide("data/plants")
    assert len(set(before.values())) > 1
    write_images(tmp_path / "new", {f"rose/{n}.png": 100 + n for n in range(30)})
    write_images(tmp_path / "new", {"oak/a.png": 1, "oak/b.png": 4})
    changes = take(tmp_path / "new", relabel=True)
    assert len(changes.added) == 30 and len(changes.relabelled) == 2
    after = divide("data/plants")
    assert {pixels: after[pixels] for pixels in before} == before


def test_retrain_reports_an_interrupted_ingest(project, new):
    begin(new)
    for used in ("data/plants", "data/plants/rose", "data"):
        with pytest.raises(DataRefusedError, match="crosstrain ingest --resume"):
            dataset_versions.verify(Path(used), DVC)
    with pytest.raises(DataRefusedError, match="crosstrain ingest --take-back"):
        dataset_versions.accept(DVC)
    assert dataset_versions.verify(Path("data/animals"), DVC)
    complete()
    assert dataset_versions.verify(Path("data/plants"), DVC)


@pytest.mark.parametrize("every", [4, SLOW(1)])
def test_an_ingest_killed_at_any_step_is_undone_or_completed(recorded, new, tmp_path, every):
    """Killed at each change of the disk up to the recording: the old version, or completed."""
    outcomes, expected = set(), None
    for count in range(0, 400, every):
        copy = shutil.copytree(recorded, tmp_path / "copy")
        with contextlib.chdir(copy):
            old = dataset_versions.fingerprint(Path("data/plants"))

            def attempt():
                with ingest.exclusive():
                    options = ingest.IngestOptions(relabel=True)
                    delivery = ingest.receive.fn(new, SETTINGS)
                    ingest.plan.fn(delivery, Path("data/plants"), options, SETTINGS)
                    ingest.carry_out.fn()

            status = die_at(count, attempt)
            journal = ingest_journal.interrupted(Path("data"))
            if journal is None:
                assert dataset_versions.fingerprint(Path("data/plants")) == old
            else:
                ingest.carry_out.fn()
                md5 = dataset_versions.fingerprint(Path("data/plants"))
                assert md5 == journal["changes"]["after"] == (expected or md5)
                expected = md5
                assert len(list(Path("data/plants").rglob("*.png"))) == 14
            outcomes.add(journal is None)
        shutil.rmtree(copy)
        if status == 0:
            break
        assert status == -9
    assert count > 20
    assert outcomes == {True, False}


@pytest.mark.parametrize("count", [SLOW(0), SLOW(3), 6, SLOW(9), SLOW(12)])
def test_an_ingest_killed_during_recording_is_completed(project, new, count):
    changes = begin(new, commit=True)
    ingest.carry_out.fn()

    def attempt():
        ingest.accept.fn()
        ingest.finish.fn(ingest.share.fn()[0])

    assert die_at(count, attempt) in (-9, 0)
    if ingest.interrupted():
        complete()
    assert dataset_versions.verify(Path("data/plants"), DVC) == changes.after
    assert git("show", "--name-only", "--format=") == "data.dvc"
    assert commits.commit_of("HEAD~1")
    assert not ingest.interrupted()


@pytest.mark.parametrize("moved", [SLOW(False), True])
def test_an_interrupted_ingest_can_be_undone(project, new, moved):
    before = dataset_versions.verify_all(DVC), DVC.read_bytes()
    begin(new, relabel=True)
    if moved:
        ingest.carry_out.fn()
        ingest.accept.fn()
    assert ingest.take_back() == "plants"
    assert (dataset_versions.verify_all(DVC), DVC.read_bytes()) == before
    assert take(new).taken


@pytest.mark.slow
def test_a_new_dataset_is_undone_completely(project, new):
    before = DVC.read_bytes()
    begin(new, "stones", relabel=True)
    ingest.carry_out.fn()
    ingest.accept.fn()
    ingest.take_back()
    assert not Path("data/stones").exists()
    assert DVC.read_bytes() == before
    assert dataset_versions.verify_all(DVC)


@pytest.mark.slow
def test_a_change_by_another_program_is_detected(project, new):
    begin(new)
    write_images("data/plants", {"oak/x.png": 99})
    with pytest.raises(CrosstrainError, match="changed by another program"):
        ingest.carry_out.fn()
    Path("data/plants/oak/x.png").unlink()
    complete()
    assert dataset_versions.verify_all(DVC)


def test_ingests_at_the_same_time_run_one_after_another(project, tmp_path):
    for n in range(3):
        write_images(
            tmp_path / f"new{n}", {"rose/a.png": 200 + n, "oak/b.png": 210, "oak/c.png": 220 + n}
        )
    children = []
    for n in range(3):
        if not (child := os.fork()):
            status = 1
            try:
                take(tmp_path / f"new{n}")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0, 0]
    assert dataset_versions.verify_all(DVC)
    assert len(labels()) == 12 + 3 + 1 + 3
