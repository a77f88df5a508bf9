"""Import contracts, commands and links in the documents, and DVC stages agree with the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli.main import app
from tools import rooms

ROOT = Path(__file__).parents[1]
FOLDERS = [folder for package in rooms.PACKAGES for folder in rooms.folders(package)]
MOST = 14
"""Entries of a folder: more is a heap."""
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])


def commands() -> set[str]:
    return set(get_command(app).commands)  # type: ignore[attr-defined]


def test_imports_keep_the_contracts() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page: Path) -> None:
    blocks = re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "".join(blocks).splitlines() + re.findall(r"`([^`\n]+)`", page.read_text())
    typed = [line.split() for line in lines if len(line.split()) > 1]
    assert {words[1] for words in typed if words[0] == "crosstrain"} <= commands()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {words[1] for words in typed if words[0] == "make"} <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_existing_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_stages_run_existing_commands_and_depend_on_existing_files() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = {out for stage in stages.values() for entry in stage.get("outs", []) for out in entry}
    for stage in stages.values():
        program, command, *_ = stage["cmd"].split()
        assert program == "crosstrain" and command in commands()
        for path in stage.get("deps", []):
            assert path in made or (ROOT / path).exists()


def relative(folder: Path) -> str:
    return folder.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_folder_is_a_room_and_no_heap(folder: Path) -> None:
    entries = [path for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()]
    names = {path.name for path in entries} - {"__init__.py", "__pycache__"}
    assert len(names) <= MOST, sorted(names)


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_room_says_what_lives_there_and_exports_nothing(folder: Path) -> None:
    """The store hashes every package that a step's modules lie in, so each of them stays small."""
    text = rooms.docstring(folder / "__init__.py")
    assert len(text) > 30, f"{relative(folder)}/__init__.py does not say what the room is for"
    if relative(folder) != "crosstrain":
        statements = ast.parse((folder / "__init__.py").read_text()).body
        assert len(statements) == 1, f"{relative(folder)}/__init__.py holds more than its docstring"


@pytest.mark.parametrize("package", ["flows", "tasks", "transfer"])
def test_every_room_has_its_floor(package: str) -> None:
    named = {room for layer in rooms.layers(package) for room in layer}
    inside = {p.stem for p in (ROOT / package).iterdir() if p.suffix == ".py" or p.is_dir()}
    assert named == inside - {"__init__", "__pycache__"}


def test_tests_mirror_the_rooms() -> None:
    """A test module lies where the module lies that it is named after."""
    modules = {
        p.relative_to(ROOT) for package in rooms.PACKAGES for p in (ROOT / package).rglob("*.py")
    }
    by_name: dict[str, set[Path]] = {}
    for module in modules:
        by_name.setdefault(module.stem, set()).add(module.parent)
    for test in (ROOT / "tests").rglob("test_*.py"):
        place = test.relative_to(ROOT / "tests").parent
        homes = by_name.get(test.stem.removeprefix("test_"), set())
        if place.parts and place.parts[0] in rooms.PACKAGES and homes:
            assert place in homes, f"{test} tests a module of {sorted(map(str, homes))}"
