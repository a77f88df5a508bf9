"""The page on adding a method: its method passes its own test and those of every method."""

import re
import sys
from types import ModuleType

import pytest
import torch

from tests.docs.how_to import PAGE, blocks, package
from tests.transfer import tiny
from tests.transfer.methods import test_every_method as every
from transfer.modalities.image.settings import BACKBONES
from transfer.training import method as seam

NAME = "transfer.methods.fine_tuning.last_stage"


def module_of(text, name):
    module = ModuleType(name)
    exec(compile(text, f"{PAGE.name}:{name}", "exec"), module.__dict__)
    return module


@pytest.fixture
def method(monkeypatch):
    """The page's method, importable as if it lay where the page says."""
    module = module_of(blocks("python")[0], NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    return module.METHOD


def test_the_pages_own_test_passes(method):
    module = module_of(blocks("python")[1], "test_last_stage")
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_it_keeps_what_it_declares_frozen(method, monkeypatch):
    phases, _ = every.run_phases(method(), monkeypatch, sources=[tiny.knowledge()])
    assert len(phases) == 1 and phases[0].prepared.frozen
    every.check_frozen(phases[0])


def test_the_pages_names_are_those_of_the_seam_and_of_the_fixtures():
    text = PAGE.read_text()
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    for name in re.findall(r"`tiny\.(\w+)\(", text):
        assert hasattr(tiny, name), name
    for name in re.findall(r"`(\w+)`", rows):
        assert hasattr(seam.Method, name), name


def test_its_backbone_is_one(tmp_path):
    leaf = module_of(blocks("python")[2], "leaf").build(channels=3, width=4, pool=True)
    assert leaf(torch.zeros(2, 3, 12, 12)).shape == (2, leaf.out_features)
    staged = {id(p) for stage in leaf.stages() for p in stage.parameters()}
    assert staged == {id(p) for p in leaf.parameters()}
    assert package(tmp_path).name == "leafnet"
    assert f'"{BACKBONES.group}"' in blocks("toml")[0]
