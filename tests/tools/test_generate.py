"""What is generated stands in the repository as it would be generated now."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from flows.operation import prefect_yaml
from tasks.versioning import new_project
from tools import generate, rooms
from transfer.settings import project
from transfer.settings.project import Settings

ROOT = Path(__file__).parents[2]
ASKED = {"version": 1, "reason": "it confuses 1 and 7"}
"""What the form of a flow leaves to the person."""
OFFERS = [ROOT / "prefect.yaml", new_project.TEMPLATE / "prefect.yaml"]
MEND = "a generated file is not as the code would have it: run `make generate`"


def test_the_reference_of_settings_is_as_generated():
    assert (ROOT / "docs/settings.md").read_text() == generate.reference(), MEND


@pytest.mark.parametrize("name", generate.SHARED)
def test_this_clone_has_the_files_of_a_new_project(name):
    assert (ROOT / name).read_bytes() == new_project.contents()[Path(name)], MEND


def test_prefect_yaml_offers_what_is_served():
    here, new = (file.read_text() for file in OFFERS)
    assert prefect_yaml.text(project.load(ROOT / "params.yaml")) == here, MEND
    assert prefect_yaml.text(Settings()) == new, MEND


@pytest.mark.parametrize("file", OFFERS, ids=["clone", "new project"])
def test_every_flow_takes_the_parameters_of_prefect_yaml(file):
    offered = yaml.safe_load(file.read_text())["deployments"]
    assert len(offered) == 7
    for one in offered:
        module, _, function = one["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), function)
        asked = {k: v for k, v in ASKED.items() if k in flow.parameters.properties}
        flow.validate_parameters(asked | one["parameters"])


def test_the_tables_of_methods_are_as_generated():
    assert generate.table() in (ROOT / "docs" / "methods.md").read_text(), MEND


def test_the_rooms_are_as_generated():
    assert rooms.page() in (ROOT / "docs" / "architecture.md").read_text(), MEND


def test_readme_counts_the_methods():
    text = (ROOT / "README.md").read_text()
    assert generate.COUNT.search(text)
    assert generate.counted(text) == text, MEND


def test_what_is_generated_is_mended_by_one_command():
    assert "\ngenerate: " in (ROOT / "Makefile").read_text()
    assert "`make generate`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_table_lists_every_method_with_its_paper():
    lines = [line for line in generate.table().splitlines() if line.startswith("| `")]
    assert len(lines) == len(generate.own_methods())
    for line in lines:
        name, purpose, reads, paper = (cell.strip() for cell in line.strip("|").split("|"))
        assert name and purpose and reads
        assert paper or name == "`scratch`"


def test_every_family_has_one_table_under_its_own_heading():
    text = generate.table()
    families = {kind.__module__.split(".")[-2] for kind in generate.own_methods().values()}
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    titles = [f"## {name.replace('_', ' ').capitalize()}" for name in sorted(families)]
    assert headings == titles
    assert text.count("|---|---|---|---|") == len(families)
    part = text.split("## Fine tuning")[1].split("## ")[0]
    assert "`freeze_norm`" in part and "`linear_probe`" not in part
