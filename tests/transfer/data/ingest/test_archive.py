"""Deliveries of every kind, and those that were made to do harm."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.core.errors import CrosstrainError, DataRefusedError
from transfer.data.ingest.archive import (
    DeliveryLimits,
    Names,
    Reject,
    checked,
    receive,
    system_errors,
)

FILES = {"rose/1.png": b"one", "rose/deep/2.png": b"two" * 1000, "oak/3.png": b""}
LIMITS = DeliveryLimits()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def there(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def reasons(rejects: list[Reject]) -> dict[str, str]:
    return {reject.path: reject.reason for reject in rejects}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def tarred(path: Path, members: list[tarfile.TarInfo], contents: list[bytes]) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    with tarfile.open(path, mode.get(path.suffix, "w")) as made:  # type: ignore[call-overload]
        for member, content in zip(members, contents, strict=True):
            member.size = len(content) if member.isreg() else 0
            made.addfile(member, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "ZIP"])
def test_every_kind_gives_the_same_files(suffix: str, tmp_path: Path, into: Path) -> None:
    path = tmp_path / f"new.{suffix}"
    if suffix.lower() == "zip":
        zipped(path, FILES)
    else:
        tarred(path, [entry(name) for name in FILES], list(FILES.values()))
    assert receive(path, into, LIMITS) == []
    assert there(into) == FILES


def test_a_folder_is_copied_without_what_is_no_file(tmp_path: Path, into: Path) -> None:
    folder = tmp_path / "new"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "rose/link.png").symlink_to(tmp_path / "secret")
    (folder / "away").symlink_to(tmp_path)
    os.mkfifo(folder / "rose/pipe.png")
    (folder / "oak/4.png").write_bytes(b"four")
    (folder / "oak/4.png").chmod(0)
    result = reasons(receive(folder, into, LIMITS))
    if os.getuid():
        assert result.pop("oak/4.png") == "permission"
    assert result == {"rose/link.png": "symlink", "away": "symlink", "rose/pipe.png": "device"}
    assert {n: c for n, c in there(into).items() if n != "oak/4.png"} == FILES


ESCAPES = [
    "../evil.png",
    "rose/../../evil.png",
    "/tmp/evil.png",
    "..\\evil.png",
    "rose\\..\\..\\evil.png",
    "C:\\evil.png",
    "c:evil.png",
    ".\\c:evil.png",
    "\\\\host\\share\\evil.png",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out(name: str, tmp_path: Path, into: Path) -> None:
    for number, path in enumerate(
        [
            zipped(tmp_path / "a.zip", {name: b"evil", "rose/1.png": b"1"}),
            tarred(tmp_path / "a.tar", [entry(name), entry("rose/1.png")], [b"evil", b"1"]),
        ]
    ):
        before = there(tmp_path)
        inside = into / str(number)
        inside.mkdir()
        assert list(reasons(receive(path, inside, LIMITS)).values()) == ["path_escape"]
        assert there(tmp_path) == before | {f"into/{number}/rose/1.png": b"1"}


def test_links_and_devices_are_left_out(tmp_path: Path, into: Path) -> None:
    kinds = {
        "s.png": (tarfile.SYMTYPE, "/etc/passwd", "symlink"),
        "h.png": (tarfile.LNKTYPE, "../../etc/passwd", "hardlink"),
        "c.png": (tarfile.CHRTYPE, "", "device"),
        "b.png": (tarfile.BLKTYPE, "", "device"),
        "f.png": (tarfile.FIFOTYPE, "", "device"),
    }
    members = [entry(name, kind, target) for name, (kind, target, _) in kinds.items()]
    through = entry("s.png/x.png")
    path = tarred(tmp_path / "a.tar", [*members, through], [b""] * 5 + [b"x"])
    expected = {name: reason for name, (_, _, reason) in kinds.items()}
    assert reasons(receive(path, into, LIMITS)) == expected
    assert there(into) == {"s.png/x.png": b"x"}  # a folder of our own, not the link
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
    assert reasons(receive(tmp_path / "b.zip", into, LIMITS)) == {"link.png": "symlink"}


TWINS = [
    ("rose/a.png", "rose/A.PNG"),
    ("rose/a.png", "Rose/b.png"),
    ("rose/\u00e9.png", "rose/e\u0301.png"),
    ("rose/stra\u00dfe.png", "rose/STRASSE.png"),
    ("rose/a.png", "rose/a.png. "),
    ("rose/a.png", "rose/a.png"),
    ("rose/a", "rose/a/b.png"),
    ("rose/a/b.png", "rose/a"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("first", "second"), TWINS)
def test_no_second_file_takes_the_place_of_a_first(
    first: str, second: str, tmp_path: Path, into: Path
) -> None:
    path = tarred(tmp_path / "a.tar", [entry(first), entry(second)], [b"1", b"2"])
    assert [reject.reason for reject in receive(path, into, LIMITS)] == ["name_clash"]
    assert list(there(into).values()) == [b"1"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rose/a\n.png", "bad_name"),
        ("rose/" + "x" * 250 + ".png", "bad_name"),
        ("a/" * 30 + "1.png", "too_deep"),
        ("rose/more.zip", "nested_archive"),
        ("rose/more.tar.gz", "nested_archive"),
    ],
)
def test_odd_names_are_rejected(name: str, reason: str, tmp_path: Path, into: Path) -> None:
    path = tarred(tmp_path / "a.tar", [entry(name)], [b"1"])
    assert [reject.reason for reject in receive(path, into, LIMITS)] == [reason]
    assert there(into) == {}


def test_a_name_that_is_no_utf8_is_rejected(tmp_path: Path, into: Path) -> None:
    path = tarred(tmp_path / "a.tar", [entry("rose/\udcff.png")], [b"1"])
    (reject,) = receive(path, into, LIMITS)
    assert (reject.reason, reject.path) == ("bad_name", "rose/\\udcff.png")


def bomb_zip(tmp_path: Path) -> Path:
    return zipped(tmp_path / "bomb.zip", {"rose/1.png": bytes(20 * 2**20)})


def bomb_tar(tmp_path: Path) -> Path:
    return tarred(tmp_path / "bomb.tar.gz", [entry("rose/1.png")], [bytes(20 * 2**20)])


def lying_zip(tmp_path: Path) -> Path:
    """The directory says 3 bytes."""
    path = bomb_zip(tmp_path)
    size = (20 * 2**20).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (3).to_bytes(4, "little")))
    return path


def skipped_tar(tmp_path: Path) -> Path:
    """What is large is no file that would be taken."""
    return tarred(tmp_path / "b.tar.xz", [entry("../1.png")], [bytes(20 * 2**20)])


def header_tar(tmp_path: Path) -> Path:
    """A header that says that its own text is 3 GiB long."""
    member = entry("rose", tarfile.XHDTYPE)
    member.size = 3 * 2**30
    path = tmp_path / "header.tar"
    path.write_bytes(member.tobuf() + bytes(2**20))
    return path


@pytest.mark.parametrize("make", [bomb_zip, bomb_tar, skipped_tar, header_tar])
def test_bombs_are_refused(make, tmp_path: Path, into: Path) -> None:
    with pytest.raises(DataRefusedError, match=r"max_ratio|header of"):
        receive(make(tmp_path), into, LIMITS)
    assert there(into) == {}


def test_a_zip_that_lies_about_its_size_gives_no_more_than_it_says(
    tmp_path: Path, into: Path
) -> None:
    assert [reject.reason for reject in receive(lying_zip(tmp_path), into, LIMITS)] == ["damaged"]
    assert there(into) == {}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_bytes_and_entries_are_limited(kind: str, tmp_path: Path, into: Path) -> None:
    files = {f"rose/{n}.png": bytes(100) for n in range(20)}
    path = tmp_path / kind
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        path = zipped(tmp_path / "a.zip", files)
    else:
        path = tarred(tmp_path / "a.tar", [entry(n) for n in files], list(files.values()))
    with pytest.raises(DataRefusedError, match=r"raise ingest\.limits\.max_bytes"):
        receive(path, into, DeliveryLimits(max_bytes=1999))
    (tmp_path / "again").mkdir()
    with pytest.raises(DataRefusedError, match="more than 19 entries"):
        receive(path, tmp_path / "again", DeliveryLimits(max_files=19))


def test_encrypted_archives_are_named(tmp_path: Path, into: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"rose/1.png": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataRefusedError, match="is encrypted"):
        receive(path, into, LIMITS)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_archives_are_named(name: str, damage: str, tmp_path: Path, into: Path) -> None:
    path, files = tmp_path / name, {"rose/1.png": os.urandom(9000)}
    if name.endswith("zip"):
        zipped(path, files)
    else:
        tarred(path, [entry(n) for n in files], list(files.values()))
    content = path.read_bytes()
    path.write_bytes({"cut": content[:4000], "noise": os.urandom(4000), "empty": b""}[damage])
    with pytest.raises(DataRefusedError, match=r"damaged|cannot be read"):
        receive(path, into, LIMITS)
    assert there(into) == {}


def test_one_damaged_member_of_a_zip_is_rejected(tmp_path: Path, into: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name in ("1", "2", "3"):
            made.writestr(f"rose/{name}.png", name * 100)
    path.write_bytes(path.read_bytes().replace(b"2" * 100, b"2" * 99 + b"!"))
    assert reasons(receive(path, into, LIMITS)) == {"rose/2.png": "damaged"}
    assert set(there(into)) == {"rose/1.png", "rose/3.png"}


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "a.png", "absent.zip"])
def test_other_files_are_refused(name: str, tmp_path: Path, into: Path) -> None:
    if name != "absent.zip":
        (tmp_path / name).write_bytes(b"Rar!")
    with pytest.raises(DataRefusedError, match=r"\.zip, \.tar"):
        receive(tmp_path / name, into, LIMITS)


def test_a_full_disk_is_no_fault_of_the_data(tmp_path: Path) -> None:
    with (
        pytest.raises(CrosstrainError, match="no room for new") as error,
        system_errors(Path("new.zip"), tmp_path),
        Path("/dev/full").open("wb") as file,
    ):
        file.write(b"1")
    assert error.value.exit_code == 5


NAMES = st.text(st.sampled_from("aAbé\u0301ßS./\\: C\0\n\udcff"), max_size=12)


@given(NAMES)
def test_an_accepted_name_stays_inside(name: str) -> None:
    result = checked(name, 3)
    if isinstance(result, str):
        assert os.path.normpath(f"/root/{result}") == f"/root/{result}"
        assert len(result.split("/")) <= 4
        assert checked(result, 3) == result
    else:
        result.path.encode()  # can be written to a report


@settings(max_examples=50)
@given(st.lists(NAMES, max_size=8))
def test_whatever_an_archive_holds_each_file_lies_inside_with_its_own_content(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[str]
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "into").mkdir()
    members = [entry(name.replace("\0", "")) for name in drawn]
    path = tarred(root / "a.tar", members, [f"{n}".encode() for n in range(len(drawn))])
    rejects = receive(path, root / "into", LIMITS)
    result = there(root)
    del result["a.tar"]
    assert all(name.startswith("into/") for name in result)
    names = Names()
    for name in result:
        assert names.clash(name) == ""
        names.add(name)
    with tarfile.open(path) as made:
        files = [member for member in made if not member.isdir()]
    assert len(result) + len(rejects) == len(files)
    first = {checked(m.name, 16): n for n, m in reversed(list(enumerate(members))) if m in members}
    for name, content in there(root / "into").items():
        assert first[name] <= int(content)
        assert checked(members[int(content)].name, 16) == name
