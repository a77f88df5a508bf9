"""A file in a folder is a name in the settings; an entry point of another package is one too."""

import importlib
import sys
from pathlib import Path

import pytest

from transfer.core import plugins
from transfer.core.errors import SettingsError
from transfer.methods import lookup
from transfer.modalities.image.settings import BACKBONES
from transfer.selection.validator import VALIDATORS

SHELF = plugins.Kind("shelf_of_methods", "crosstrain.shelf", helpers=("shared",))


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package with three public modules, one in a folder, a private one and helpers."""
    root = tmp_path / "shelf_of_methods"
    for folder in ("family", "shared"):
        (root / folder).mkdir(parents=True)
    for name in ("__init__", "zebra", "ant", "_private", "family/__init__", "family/newt"):
        (root / f"{name}.py").write_text(f"NAME = {name!r}\n")
    for name in ("__init__", "helper"):
        (root / "shared" / f"{name}.py").write_text("")
    (root / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("shelf_of_methods")]:
        monkeypatch.delitem(sys.modules, name)
    plugins._outside.cache_clear()
    return importlib.import_module("shelf_of_methods")


def test_names_are_the_public_modules_sorted(shelf):
    assert plugins.names(SHELF) == ["ant", "newt", "zebra"]
    assert plugins.module_name(SHELF, "newt") == "shelf_of_methods.family.newt"


def test_a_new_file_is_a_new_name(shelf):
    Path(shelf.__path__[0], "bee.py").write_text("NAME = 'bee'\n")
    assert "bee" in plugins.names(SHELF)
    assert plugins.load(SHELF, "bee").NAME == "bee"


@pytest.mark.parametrize(
    "name", ["beetle", "_private", "", "ant.x", "../ant", "family", "shared", "helper"]
)
def test_an_unknown_name_is_refused_with_those_there_are(shelf, name):
    with pytest.raises(SettingsError, match="expected one of ant, newt, zebra") as error:
        plugins.load(SHELF, name)
    assert "a new file in shelf_of_methods/" in str(error.value)


def test_an_entry_point_of_another_package_is_a_name(shelf, tmp_path):
    (tmp_path / "elsewhere_of_ours.py").write_text("NAME = 'yak'\n")
    about = tmp_path / "elsewhere-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[crosstrain.shelf]\nyak = elsewhere_of_ours\nant = elsewhere_of_ours\n"
    )
    plugins._outside.cache_clear()
    assert plugins.names(SHELF) == ["ant", "newt", "yak", "zebra"]
    assert plugins.load(SHELF, "yak").NAME == "yak"
    assert plugins.load(SHELF, "ant").NAME == "ant"  # the project's own goes first


def test_the_library_lists_its_own():
    assert {"scratch", "linear_probe", "fine_tune", "l2_sp"} <= set(plugins.names(lookup.METHODS))
    assert "resnet" in plugins.names(BACKBONES)
    assert "agreement" in plugins.names(VALIDATORS)
    assert list(lookup.known()) == plugins.names(lookup.METHODS)
    for name, kind in lookup.known().items():
        assert kind.__module__ == lookup.module_name(name)
        assert kind.__module__.rpartition(".")[2] == name


def offer(tmp_path, text):
    """A package ``elsewhere`` whose module for the key ``yak`` has this text."""
    name = f"offered_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    about = tmp_path / "elsewhere-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[crosstrain.shelf]\nyak = {name}\n")
    importlib.invalidate_caches()
    plugins._outside.cache_clear()
    return name


def test_an_entry_point_is_known_from_a_file_of_the_project(shelf, tmp_path):
    module = offer(tmp_path, "")
    assert plugins.entry_point(SHELF, "yak").module == module
    assert plugins.entry_point(SHELF, "ant") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: "),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_its_package(shelf, tmp_path, text, told):
    offer(tmp_path, text)
    with pytest.raises(SettingsError, match=told) as error:
        plugins.load(SHELF, "yak")
    assert "the plug-in 'yak' of the package elsewhere (crosstrain.shelf: " in str(error.value)
    assert "mend the package, or uninstall it" in str(error.value)


def test_a_plugin_that_lacks_what_its_kind_offers_is_named(shelf, tmp_path):
    offer(tmp_path, "NAME = 'yak'")
    assert plugins.attribute(SHELF, "yak", "NAME") == "yak"
    with pytest.raises(SettingsError, match=r"'yak' of the package elsewhere .* has no METHOD"):
        plugins.attribute(SHELF, "yak", "METHOD")
    with pytest.raises(SettingsError, match=r"shelf_of_methods\.ant has no METHOD"):
        plugins.attribute(SHELF, "ant", "METHOD")


def test_a_method_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = offer(tmp_path, "METHOD = 'train'")
    about = tmp_path / "elsewhere-1.0.dist-info"
    (about / "entry_points.txt").write_text(f"[crosstrain.methods]\nyak = {name}\n")
    plugins._outside.cache_clear()
    try:
        with pytest.raises(SettingsError, match="is 'train'; expected a subclass of"):
            lookup.load("yak")
    finally:
        plugins._outside.cache_clear()
