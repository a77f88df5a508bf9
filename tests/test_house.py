"""Import contracts, commands and links in the documents, and DVC stages agree with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).parents[1]
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
