"""The digest depends on what a step imports, and on nothing else."""

import itertools
import subprocess
import sys

import pytest

from tasks.store import source_digest as code
from tasks.store.source_digest import source_digest
from transfer.modalities.backbone import BackboneSpec
from transfer.models.network import backbone_modules

NUMBER = itertools.count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in which ``main`` imports most modules, each in another way."""
    name = f"house{next(NUMBER)}"
    root = tmp_path / name
    (root / "attic").mkdir(parents=True)
    sources = {
        "__init__": "",
        "main": f"""
            import json
            import {name}.direct
            from {name} import part
            from {name}.named import VALUE
            from {name}.attic import chest

            def later():
                from {name} import hidden
                return hidden
        """,
        "direct": f"from {name}.deep import *",
        "deep": f"import {name}.main",  # a circle
        "part": "",
        "named": "VALUE = 1",
        "hidden": "",
        "stranger": f"import {name}.main",
        "attic/__init__": "",
        "attic/chest": "",
        "attic/moth": "",
    }
    for module, text in sources.items():
        lines = [line.removeprefix(" " * 12) for line in text.splitlines()]
        (root / f"{module}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return root


def digest(package, *modules):
    """The digest as a new process computes it, without cached imports."""
    code._closure.cache_clear()
    code._version.cache_clear()
    return source_digest([f"{package.name}.{module}" for module in modules])


@pytest.mark.parametrize(
    "module",
    ["main", "direct", "deep", "part", "named", "hidden", "__init__", "attic/__init__",
     "attic/chest"],
)  # fmt: skip
def test_an_edit_in_what_is_imported_changes_the_digest(package, module):
    before = digest(package, "main")
    assert digest(package, "main") == before
    path = package / f"{module}.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert digest(package, "main") != before


@pytest.mark.parametrize("module", ["stranger", "attic/moth"])
def test_an_edit_elsewhere_keeps_the_digest(package, module):
    before = digest(package, "main")
    path = package / f"{module}.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    (package / "new.py").write_text("")
    assert digest(package, "main") == before


def test_a_new_import_is_followed(package):
    digest(package, "part")
    (package / "part.py").write_text(f"from {package.name}.attic import moth")
    before = digest(package, "part")
    (package / "attic" / "moth.py").write_text("HOLES = 9")
    assert digest(package, "part") != before


def test_the_digest_does_not_depend_on_the_order_of_modules_or_on_their_folder(package):
    assert digest(package, "part", "named") == digest(package, "named", "part")
    assert digest(package, "part") != digest(package, "part", "named")


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    {0}\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    {0}",
        "try:\n    pass\nfinally:\n    {0}",
        "if 1:\n    pass\nelif 2:\n    {0}",
        "for x in ():\n    pass\nelse:\n    {0}",
        "with open('x'):\n    {0}",
        "match 1:\n    case 1:\n        {0}",
        "class A:\n    async def b(self):\n        while 1:\n            {0}",
        "x = lambda: 1; {0}",
    ],
)
def test_an_import_is_followed_in_any_statement(package, text):
    (package / "part.py").write_text(text.format(f"from {package.name}.attic import moth"))
    before = digest(package, "part")
    (package / "attic" / "moth.py").write_text("HOLES = 9")
    assert digest(package, "part") != before


def test_nothing_is_imported_to_find_the_imports(package):
    digest(package, "main", "stranger")
    assert not [name for name in sys.modules if name.startswith(package.name)]


def test_a_module_that_is_not_there_is_an_error(package):
    with pytest.raises(ModuleNotFoundError, match=r"no module named '.*\.cellar'"):
        digest(package, "cellar")
    with pytest.raises(ModuleNotFoundError, match="no package named 'no_such_house'"):
        source_digest(["no_such_house.cellar"])


def test_versions_that_change_numbers_count(package, monkeypatch):
    before = digest(package, "part")
    monkeypatch.setattr(code, "version", lambda name: "0.0" if name == "torch" else "1")
    first = digest(package, "part")
    monkeypatch.setattr(code, "version", lambda name: "0.1" if name == "torch" else "1")
    assert len({before, first, digest(package, "part")}) == 3


@pytest.mark.parametrize("module", ["transfer.data.scan", "transfer.arms.adapt"])
def test_every_module_of_the_library_that_an_import_loads_counts(module):
    script = f"import sys, {module}; print(*(m for m in sys.modules if m.startswith('transfer')))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert set(loaded.stdout.decode().split()) <= code._closure(module)


def test_steps_do_not_depend_on_what_comes_after_them():
    assert "transfer.training.loop" in code._closure("transfer.arms.adapt")
    loaded_by_name = backbone_modules("image", BackboneSpec(name="resnet"))
    closure = frozenset().union(*map(code._closure, loaded_by_name))
    assert "transfer.modalities.image.augment" in closure
    assert "transfer.modalities.image.backbones.resnet" in closure
    for later in (
        "transfer.evaluation.evaluate",
        "transfer.deployment.gate.rules",
        "transfer.settings.project",
    ):
        assert later not in code._closure("transfer.arms.adapt")
    assert "transfer.training.loop" not in code._closure("transfer.data.scan")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package outside the project, which imports its own parts and the library."""
    name = f"guest{next(NUMBER)}"
    root = tmp_path / name
    (root / "shared").mkdir(parents=True)
    sources = {
        "__init__": "",
        "method": "from . import near\nfrom .shared.deep import VALUE\nimport json",
        "near": "from transfer.training.method import Method",
        "other": "",
        "shared/__init__": "",
        "shared/deep": "from .. import far\nfrom ..beside import *\nVALUE = 1",
        "far": "",
        "beside": "",
    }
    for module, text in sources.items():
        (root / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return root


@pytest.mark.parametrize(
    "module", ["__init__", "method", "near", "shared/__init__", "shared/deep", "far", "beside"]
)
def test_an_edit_of_what_a_plugin_uses_changes_its_digest(plugin, module):
    before = digest(plugin, "method")
    file = plugin / f"{module}.py"
    file.write_text(file.read_text() + "\n# a comment\n")
    assert digest(plugin, "method") != before


def test_an_edit_elsewhere_in_a_plugin_keeps_the_digest(plugin):
    before = digest(plugin, "method")
    (plugin / "other.py").write_text("HOLES = 9")
    assert digest(plugin, "method") == before


def test_library_modules_of_a_plugin_are_included(plugin):
    code._closure.cache_clear()
    closure = code._closure(f"{plugin.name}.method")
    assert {"transfer.training.method", "transfer.models.network", f"{plugin.name}.far"} <= closure
    assert f"{plugin.name}.other" not in closure


def test_a_plugin_may_be_one_file_or_in_a_namespace_package(tmp_path, monkeypatch):
    alone, shared = f"alone{next(NUMBER)}", f"shared{next(NUMBER)}"
    (tmp_path / f"{alone}.py").write_text("import transfer.core.errors")
    (tmp_path / shared / "leaf").mkdir(parents=True)
    (tmp_path / shared / "leaf" / "__init__.py").write_text("")
    (tmp_path / shared / "leaf" / "method.py").write_text("from . import __doc__")
    monkeypatch.syspath_prepend(tmp_path)
    assert {alone, "transfer.core.errors"} <= code._closure(alone)
    inner = f"{shared}.leaf"
    assert code._closure(f"{inner}.method") == {inner, f"{inner}.method"}
    with pytest.raises(ModuleNotFoundError, match=f"no module named '{alone}.inner'"):
        source_digest([f"{alone}.inner"])
