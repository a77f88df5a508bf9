"""A digest of the library source that a step uses."""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path
from threading import Lock

_PARSER = Lock()  # CPython 3.11 counts the parser's depth for all threads together, and fails
NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pillow")
"""Packages whose version can change numbers."""
_SOURCES = (".py", ".html")


def source_digest(modules: Sequence[str]) -> str:
    """Digest of the source of modules and of the versions of the packages that change numbers.

    The source includes the modules themselves, their parent packages, and every module of the same
    top-level package that they import, directly or indirectly. An edit in a module that a step
    does not import leaves that step's stored results valid.
    """
    closure = sorted(set().union(*(_closure(module) for module in modules)))
    parts = [f"{name} {hashlib.sha256(_file(name).read_bytes()).hexdigest()}" for name in closure]
    parts += [f"{package} {_version(package)}" for package in NUMERIC_PACKAGES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def installed_code(module: str) -> dict[str, str]:
    """What a result depends on besides data and settings: installed code and its requirements.

    Args:
        module: dotted name of the module that is run.

    Returns:
        Under ``digest`` the SHA-256 of every file of the packages `transfer` and `tasks` and of
        the modules of its own package that `module` uses; and the version of crosstrain and of
        each package that it requires, by name.
    """
    files = {name: _file(name) for name in _closure(module)}
    for package in ("transfer", "tasks"):
        root = _folder(package)
        paths = (p for p in root.rglob("*") if p.is_file() and p.suffix in _SOURCES)
        files |= {f"{package}/{path.relative_to(root).as_posix()}": path for path in paths}
    lines = [
        f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for name, file in sorted(files.items())
    ]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    requirements = [line for line in requires("crosstrain") or [] if "extra ==" not in line]
    names = [match[0] for line in requirements if (match := re.match(r"[\w.-]+", line))]
    return {"digest": digest} | {name: _version(name) for name in ["crosstrain", *sorted(names)]}


def _file(module: str) -> Path:
    if (file := _find_file(module)) is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return file


def _find_file(module: str) -> Path | None:
    """The file of a module. Nothing is imported; `importlib` would import the parent packages."""
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
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name and name not in reached:
            reached.add(name)
            waiting += [*_imports(name), name.rpartition(".")[0]]
    return frozenset(reached)


def _imports(module: str) -> list[str]:
    root = module.split(".", maxsplit=1)[0]
    names = _imported_names(_file(module).read_bytes())
    return [name for name in names if name.split(".")[0] == root and _find_file(name)]


@cache
def _imported_names(source: bytes) -> list[str]:
    """Names that a source file imports; an imported name may be a module or an object in it."""
    with _PARSER:
        tree = ast.parse(source)
    names = []
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _statements(statements: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every statement at any depth. Expressions, most of the tree, are skipped: they hold none."""
    waiting = [*statements]
    while waiting:
        yield (node := waiting.pop())
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())
