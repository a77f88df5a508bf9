"""A digest of the library source that a step uses."""

import ast
import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

_PARSER = Lock()  # CPython 3.11 counts the parser's depth for all threads together, and fails
NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pillow")
"""Packages whose version can change numbers."""


def source_digest(modules: Sequence[str]) -> str:
    """Digest of modules, of the packages they lie in, of every module of the same package they
    import, and so on, and of the versions of the packages that change numbers.

    An edit in a module that a step does not import leaves that step's stored results valid.
    """
    closure = sorted(set().union(*(_closure(module) for module in modules)))
    parts = [f"{name} {hashlib.sha256(_file(name).read_bytes()).hexdigest()}" for name in closure]
    parts += [f"{package} {version(package)}" for package in NUMERIC_PACKAGES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return Path(spec.origin)


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
    found = []
    with _PARSER:
        tree = ast.parse(_file(module).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == root and _is_module(name)]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
