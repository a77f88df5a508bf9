"""What a version carries of the packages outside the project that its networks are built from."""

import json
import sys
from importlib.metadata import version

import pytest

from tasks.tracking import models, plugin_code
from tests.docs.how_to import package
from transfer.core import plugins
from transfer.core.errors import ModelFileError
from transfer.models import predictor


@pytest.fixture
def leafnet(tmp_path, monkeypatch):
    """The package of the how-to page, installed as long as a test runs."""
    root = package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins._outside.cache_clear()
    yield root
    plugins._outside.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "leafnet"]:
        del sys.modules[name]


@pytest.fixture
def leafy(model, tmp_path):
    """The card of a model one of whose networks has the package's backbone."""
    card = json.loads((model / "card.json").read_text())
    card["members"][0]["backbone_spec"] = {"name": "leaf", "options": {"width": 4}}
    folder = tmp_path / "leafy"
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "weights.safetensors").write_bytes((model / "weights.safetensors").read_bytes())
    return folder


def require(leafnet, *lines):
    (about,) = leafnet.parent.glob("*.dist-info/METADATA")
    about.write_text(about.read_text() + "".join(f"Requires-Dist: {line}\n" for line in lines))


def test_a_model_of_this_projects_backbones_needs_no_package(model, leafnet):
    assert plugin_code.needed(model) == []
    assert plugin_code.files([]) == {} and plugin_code.requirements([], models.REQUIREMENTS) == []


def test_a_package_is_carried_whole_with_the_entry_point_that_offers_its_backbone(leafy, leafnet):
    (leafnet / "weights.bin").write_bytes(b"large")
    points = plugin_code.needed(leafy)
    files = plugin_code.files(points)
    assert [point.name for point in points] == ["leaf"]
    assert {name for name in files if name.startswith("leafnet/")} == {
        "leafnet/__init__.py",
        "leafnet/last_stage.py",
        "leafnet/leaf.py",
    }
    assert files["leafnet/leaf.py"] == (leafnet / "leaf.py").read_bytes()
    about = "leafnet-1.0.dist-info/"
    assert {name for name in files if name.startswith(about)} == {
        f"{about}METADATA",
        f"{about}entry_points.txt",
    }
    entry_points = files[f"{about}entry_points.txt"].decode()
    assert entry_points == "[crosstrain.backbones]\nleaf = leafnet.leaf\n"


def test_the_backbones_side_by_side_in_a_fused_one_count(leafy, leafnet):
    card = json.loads((leafy / "card.json").read_text())
    backbone_spec = card["members"][0]["backbone_spec"]
    card["members"][0]["backbone_spec"] = {"name": "fused", "options": {"parts": [backbone_spec]}}
    (leafy / "card.json").write_text(json.dumps(card))
    assert [point.name for point in plugin_code.needed(leafy)] == ["leaf"]


def test_its_other_requirements_are_pinned_as_installed(leafy, leafnet):
    require(leafnet, "torch>=2", "scipy", "rich>1; extra == 'show'", "no-such-leaf>=2")
    pinned = plugin_code.requirements(plugin_code.needed(leafy), models.REQUIREMENTS)
    assert pinned == ["no-such-leaf>=2", f"scipy=={version('scipy')}"]


def test_a_package_of_one_file_is_that_file(leafy, tmp_path, monkeypatch):
    site = tmp_path / "flat"
    about = site / "flatleaf-2.0.dist-info"
    about.mkdir(parents=True)
    (site / "flat_leaf_net.py").write_text("SHAPE = 'flat'\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flatleaf\nVersion: 2.0\n")
    (about / "entry_points.txt").write_text("[crosstrain.backbones]\nleaf = flat_leaf_net\n")
    monkeypatch.syspath_prepend(site)
    plugins._outside.cache_clear()
    try:
        files = plugin_code.files(plugin_code.needed(leafy))
    finally:
        plugins._outside.cache_clear()
    assert files["flat_leaf_net.py"] == b"SHAPE = 'flat'\n"
    assert "flatleaf-2.0.dist-info/entry_points.txt" in files and len(files) == 3


def test_a_model_whose_package_is_not_installed_names_the_missing_backbone(leafy):
    message = "the backbone 'leaf' is missing: it is a plug-in that is not installed here"
    with pytest.raises(ModelFileError, match=message):
        predictor.load(leafy)
