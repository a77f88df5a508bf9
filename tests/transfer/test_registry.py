"""A file in a folder is a name in the settings."""

import importlib
import sys
from pathlib import Path

import pytest

from transfer import backbones, method, methods, registry
from transfer.errors import SettingsError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package with two public modules, a private one and a folder."""
    root = tmp_path / "shelf_of_methods"
    (root / "nested").mkdir(parents=True)
    for name in ("__init__", "zebra", "ant", "_private", "nested/__init__"):
        (root / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (root / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shelf_of_methods", raising=False)
    return importlib.import_module("shelf_of_methods")


def test_names_are_the_public_modules_sorted(shelf):
    assert registry.names(shelf) == ["ant", "nested", "zebra"]


def test_a_new_file_is_a_new_name(shelf):
    Path(shelf.__path__[0], "bee.py").write_text("NAME = 'bee'\n")
    assert "bee" in registry.names(shelf)
    assert registry.load(shelf, "bee").NAME == "bee"


@pytest.mark.parametrize("name", ["beetle", "_private", "", "ant.x", "../ant"])
def test_an_unknown_name_is_refused_with_those_there_are(shelf, name):
    with pytest.raises(SettingsError, match="expected one of ant, nested, zebra") as error:
        registry.load(shelf, name)
    assert "a new file in shelf_of_methods/" in str(error.value)


def test_the_library_lists_its_own():
    assert {"scratch", "linear_probe", "fine_tune", "l2_sp"} <= set(registry.names(methods))
    assert "resnet" in registry.names(backbones)
    assert list(method.known()) == registry.names(methods)
    for name, kind in method.known().items():
        assert kind.__module__ == f"transfer.methods.{name}"
