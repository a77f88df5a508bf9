"""A digest of the library source that a step uses."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from transfer.modalities import lookup

_PARSER = Lock()  # CPython 3.11 counts the parser's depth for all threads together, and fails
NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
"""Packages whose version can change numbers of any step; modalities name more."""


def source_digest(modules: Sequence[str]) -> str:
    """Digest of modules, of the packages they lie in, of every module of the same package they
    import, and so on, and of the versions of the packages that change numbers: those of every step,
    and those of the modalities among the modules.

    An edit in a module that a step does not import leaves that step's stored results valid.
    """
    closure = sorted(set().union(*(_closure(module) for module in modules)))
    parts = [f"{name} {hashlib.sha256(_file(name).read_bytes()).hexdigest()}" for name in closure]
    parts += [
        f"{package} {_version(package)}"
        for package in (*NUMERIC_PACKAGES, *lookup.packages(modules))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file(module: str) -> Path:
    if (found := _found(module)) is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return found


def _found(module: str) -> Path | None:
    """The file of a module; none is imported to find it, as `importlib` would what it lies in."""
    root, *inner = module.split(".")
    place = _folder(root).joinpath(*inner)
    files = place / "__init__.py", place.with_name(f"{place.name}.py")
    return next((file for file in files if file.is_file()), None)


@cache
def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no package named {package!r}")
    return Path(spec.origin).parent


@cache
def _version(package: str) -> str:
    return version(package)


@cache
def _closure(module: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name and name not in seen:
            seen.add(name)
            waiting += [*_imports(name), name.rpartition(".")[0]]
    return frozenset(seen)


def _imports(module: str) -> list[str]:
    root = module.split(".", maxsplit=1)[0]
    found = _imported(_file(module).read_bytes())
    return [name for name in found if name.split(".")[0] == root and _found(name)]


@cache
def _imported(source: bytes) -> list[str]:
    """What a source imports, and what that would be if it were a module."""
    with _PARSER:
        tree = ast.parse(source)
    found = []
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every statement, of any depth; expressions, most of a tree, hold none."""
    waiting = [*body]
    while waiting:
        yield (node := waiting.pop())
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())
