"""Each kind of dataset, extended: read again, it holds what was found."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.transfer import tiny
from transfer.core.errors import DataRefusedError
from transfer.data.ingest import plan as extend
from transfer.data.ingest.archive import Names
from transfer.data.ingest.compare import Findings, Item, compare, items_of
from transfer.data.ingest.plan import Plan
from transfer.data.readers.npz import load_arrays
from transfer.data.scan import survey
from transfer.modalities.image.spec import ImageLimits

LIMITS = ImageLimits()


def paint(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, pictures: dict[str, int]) -> Path:
    for name, seed in pictures.items():
        paint(root / name, seed)
    return root


def read(dataset: Path) -> list[Item]:
    table, rejects = survey(dataset, LIMITS)
    assert rejects == []
    return items_of(table)


def found(old: Path, new: Path, **asked: bool) -> Findings:
    return compare(read(old), read(new), **asked)


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def carried_out(plan: Plan, dataset: Path, delivery: Path) -> Path:
    """Do what a plan says, plainly."""
    for source, new in plan.arrivals:
        assert not (dataset / new).exists()
        (dataset / new).parent.mkdir(parents=True, exist_ok=True)
        (dataset / new).write_bytes((delivery / source).read_bytes())
    for was, new in plan.moves:
        assert not (dataset / new).exists()
        (dataset / new).parent.mkdir(parents=True, exist_ok=True)
        (dataset / was).rename(dataset / new)
    for name in plan.removals:
        (dataset / name).unlink()
    for name, content in plan.rewrites.items():
        (dataset / name if name else dataset).write_bytes(content)
    return dataset


def labels(dataset: Path) -> dict[str, str]:
    return {item.pixels: item.label for item in read(dataset)}


def test_a_folder_takes_what_is_new_under_free_names(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", {"rose/1.png": 1, "rose/2.png": 2, "oak/1.png": 3})
    new = folder(
        tmp_path / "new", {"rose/1.png": 4, "rose/deep/2.PNG": 5, "oak/9.png": 2, "oak/8.png": 3}
    )
    comparison = found(old, new, relabel=True)
    plan = extend.into_folder(read(old), files(old), comparison, by_class_folder=True)
    digest = next(item.sha256 for item in comparison.added if item.id == "rose/1.png")
    assert [one.id for one in plan.added] == [f"rose/1-{digest[:8]}.png", "rose/deep/2.PNG"]
    assert plan.moves == [("rose/2.png", "oak/2.png")]
    before = labels(old)
    after = labels(carried_out(plan, old, new))
    assert after == before | labels(new)


def test_a_folder_takes_a_manifest_by_its_labels(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", {"rose/1.png": 1, "oak/1.png": 3})
    new = folder(tmp_path / "new", {"img/a.png": 7, "img/b.png": 8})
    (new / "list.csv").write_text("path,label\nimg/a.png,oak\nimg/b.png,rose\n")
    comparison = found(old, new / "list.csv")
    plan = extend.into_folder(read(old), files(old), comparison, by_class_folder=False)
    assert dict(plan.arrivals) == {"img/a.png": "oak/img/a.png", "img/b.png": "rose/img/b.png"}
    (new / "list.csv").write_text("path,label,group\nimg/a.png,oak,g\n")
    with pytest.raises(DataRefusedError, match="a group or a split"):
        comparison = found(old, new / "list.csv")
        extend.into_folder(read(old), files(old), comparison, by_class_folder=False)
    (new / "list.csv").write_text("path,label\nimg/a.png,../oak\n")
    with pytest.raises(DataRefusedError, match="cannot be a folder's name"):
        comparison = found(old, new / "list.csv")
        extend.into_folder(read(old), files(old), comparison, by_class_folder=False)


def test_no_new_name_meets_one_that_some_system_takes_for_it(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", {"rose/A.png": 1, "oak/1.png": 2})
    new = folder(tmp_path / "new", {"rose/a.PNG": 3})
    plan = extend.into_folder(read(old), files(old), found(old, new), by_class_folder=True)
    ((_, name),) = plan.arrivals
    assert Names(files(old)).clash(name) == ""


def test_a_manifest_keeps_its_other_columns_and_rows(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", {"img/1.png": 1, "img/2.png": 2, "img/3.png": 3})
    lines = ["\ufeffpath,note,label,group", 'img/1.png,"a, b",rose,g1', "img/2.png,c,oak,g2"]
    lines += ["./img/3.png,d,oak,"]
    (old / "list.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    new = folder(tmp_path / "new", {"rose/1.png": 4, "rose/2.png": 2})
    manifest = old / "list.csv"
    comparison = found(manifest, new, relabel=True)
    plan = extend.into_table(manifest, files(old), comparison)
    carried_out(plan, old, new)
    assert manifest.read_bytes().decode().split("\r\n") == [
        *lines[:2],
        "img/2.png,c,rose,g2",
        lines[3],
        "rose/1.png,,rose,",
        "",
    ]
    gone = found(manifest, new, replace=True)
    carried_out(extend.into_table(manifest, files(old), gone), old, new)
    assert {item.id for item in read(manifest)} == {"img/2.png", "rose/1.png"}
    assert files(old) == ["img/2.png", "list.csv", "rose/1.png"]


def test_a_manifest_without_a_column_for_groups_takes_none(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", {"1.png": 1, "2.png": 2})
    (old / "list.csv").write_text("path,label\n1.png,rose\n2.png,oak\n")
    new = folder(tmp_path / "new", {"3.png": 3})
    (new / "list.csv").write_text("path,label,split\n3.png,rose,test\n")
    comparison = found(old / "list.csv", new / "list.csv")
    with pytest.raises(DataRefusedError, match="gives a split for its items"):
        extend.into_table(old / "list.csv", files(old), comparison)


def arrays(path: Path, seeds: list[int], names: list[str], side: int = 8, **more: object) -> Path:
    images = [
        np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8) for seed in seeds
    ]
    told = {"labels": np.arange(len(seeds)) % len(names), "class_names": np.array(names)}
    np.savez_compressed(path, images=np.array(images), **(told | more))  # type: ignore[arg-type]
    return path


def test_arrays_are_joined_by_the_names_of_their_classes(tmp_path: Path) -> None:
    old = arrays(tmp_path / "old.npz", [1, 2, 3, 4], ["rose", "oak"])
    groups = np.array(["g5", "g6", "g1"])
    new = arrays(tmp_path / "new.npz", [5, 6, 2], ["oak", "tulip", "rose"], groups=groups)
    comparison = found(old, new, relabel=True)
    plan = extend.into_arrays(old, new, comparison, name="old.npz")
    before = labels(old)
    carried_out(plan, old, new)
    assert labels(old) == before | labels(new)
    assert [one.id for one in plan.added] == ["old.npz#000004", "old.npz#000005"]
    listing = load_arrays(old, LIMITS, tiny.MODALITY).listing
    assert listing.class_names == ("rose", "oak", "tulip")
    assert [entry.group for entry in listing.entries] == ["", "", "", "", "g5", "g6"]
    gone = found(old, new, replace=True)
    carried_out(extend.into_arrays(old, new, gone, name="old.npz"), old, new)
    assert labels(old) == labels(new)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    old = arrays(tmp_path / "old.npz", [1, 2], ["rose", "oak"])
    new = arrays(tmp_path / "new.npz", [3], ["rose"], side=9)
    with pytest.raises(DataRefusedError, match="expected the same shape"):
        extend.into_arrays(old, new, found(old, new), name="old.npz")
    odd = arrays(tmp_path / "odd.npz", [1, 2], ["rose", "oak"], masks=np.zeros(2))
    with pytest.raises(DataRefusedError, match="array 'masks'"):
        extend.into_arrays(odd, new, found(old, new), name="odd.npz")


def test_empty_beginnings_have_the_kind_of_the_delivery(tmp_path: Path) -> None:
    new = arrays(tmp_path / "new.npz", [3, 4], ["rose", "oak"], groups=np.array(["a", "b"]))
    first = tmp_path / "first.npz"
    first.write_bytes(extend.empty_arrays(new))
    plan = extend.into_arrays(first, new, compare([], read(new)), name="first.npz")
    assert labels(carried_out(plan, first, new)) == labels(new)
    table = tmp_path / "list.csv"
    table.write_text("other,path,split,label\n,1.png,,a\n")
    assert extend.empty_table(table) == b"path,split,label\n"


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        (["rose/1.png", "oak/1.png"], ""),
        (["night/rose/1.png", "night/oak/1.png"], "night"),
        (["a/b/rose/1.png", "a/b/oak/1.png", "__MACOSX/x.png"], "a/b"),
        (["rose/2024/1.png"], ""),
        (["rose/1.png"], ""),
        (["night/rose/1.png", "night/2.png"], ""),
    ],
)
def test_the_dataset_is_found_below_folders_that_hold_nothing_else(
    pictures: list[str], expected: str, tmp_path: Path
) -> None:
    folder(tmp_path, dict.fromkeys(pictures, 1))
    assert extend.delivered(tmp_path, ["rose", "oak"]) == tmp_path / expected


def test_manifests_and_arrays_are_found(tmp_path: Path) -> None:
    folder(tmp_path / "a", {"in/1.png": 1, "in/2.png": 1})
    (tmp_path / "a/in/list.csv").write_text("path,label\n")
    assert extend.delivered(tmp_path / "a", []) == tmp_path / "a/in/list.csv"
    folder(tmp_path / "b", {"in/img/2.png": 1})
    (tmp_path / "b/in/list.csv").write_text("path,label\n")
    assert extend.delivered(tmp_path / "b", []) == tmp_path / "b/in/list.csv"
    (tmp_path / "c/in").mkdir(parents=True)
    arrays(tmp_path / "c/in/new.npz", [1], ["rose"])
    assert extend.delivered(tmp_path / "c", []) == tmp_path / "c/in/new.npz"
    (tmp_path / "b/in/more.csv").write_text("path,label\n")
    with pytest.raises(DataRefusedError, match=r"list\.csv, more\.csv"):
        extend.delivered(tmp_path / "b", [])


def test_files_that_a_manifest_does_not_name_are_rejected(tmp_path: Path) -> None:
    folder(tmp_path, {"img/1.png": 1, "img/2.png": 2})
    (tmp_path / "list.csv").write_text("path,label\nimg/1.png,rose\n")
    rejects = extend.unlisted(tmp_path / "list.csv", ["img/1.png"])
    assert [(r.path, r.reason) for r in rejects] == [("img/2.png", "not_listed")]
