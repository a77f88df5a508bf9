"""A digest of the library source that a step uses."""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points, requires, version
from pathlib import Path
from threading import Lock

_PARSER = Lock()  # CPython 3.11 counts the parser's depth for all threads together, and fails
NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
"""Packages whose version can change numbers of any step; modalities name more."""
LIBRARY = "transfer"
PROJECT = (LIBRARY, "tasks", "flows")
_SOURCES = (".py", ".html")


def source_digest(modules: Sequence[str]) -> str:
    """Digest of the source of modules and of the versions of the packages that change numbers:
    those of every step, and those of the modalities among the modules.

    The source includes the modules themselves, their parent packages, and every module of the same
    top-level package that they import, directly or indirectly. For a package outside this project,
    such as a plug-in, imports of the library are followed, too. An edit in a module that a step
    does not import leaves that step's stored results valid.

    Raises:
        ModuleNotFoundError: a module or package does not exist.
    """
    from transfer.modalities import lookup  # which imports torch: a look at the store needs none

    closure = sorted(set().union(*(_closure(module) for module in modules)))
    parts = [f"{name} {hashlib.sha256(_file(name).read_bytes()).hexdigest()}" for name in closure]
    parts += [
        f"{package} {_version(package)}"
        for package in (*NUMERIC_PACKAGES, *lookup.packages(modules))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def installed_code(module: str) -> dict[str, str]:
    """What a result depends on besides data and settings: the installed code and its requirements.

    Args:
        module: dotted name of the module that is run.

    Returns:
        Under ``digest`` the SHA-256 of every file of the packages `transfer` and `tasks` and of
        the modules of their own package that `module` and plug-ins use; and the version of
        crosstrain, of each package that it requires and of each that offers plug-ins, by name.
    """
    lines = [
        f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for name, file in sorted(code_files(module).items())
    ]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    needed = [line for line in requires("crosstrain") or [] if "extra ==" not in line]
    names = {match[0] for line in needed if (match := re.match(r"[\w.-]+", line))}
    names |= {point.dist.name for point in _plugins() if point.dist}
    return {"digest": digest} | {name: _version(name) for name in ["crosstrain", *sorted(names)]}


def code_files(module: str) -> dict[str, Path]:
    """The files that `installed_code` is about, by module, or by path in `transfer` and `tasks`."""
    used = [module, *(point.value for point in _plugins() if _is_there(point.value))]
    files = {name: _file(name) for name in set().union(*map(_closure, used))}
    for package in ("transfer", "tasks"):
        root = _file(package).parent
        paths = (p for p in root.rglob("*") if p.is_file() and p.suffix in _SOURCES)
        files |= {f"{package}/{path.relative_to(root).as_posix()}": path for path in paths}
    return files


def _plugins() -> list[EntryPoint]:
    """Every plug-in that an installed package offers."""
    groups = [name for name in entry_points().groups if name.startswith("crosstrain.")]
    return [point for name in groups for point in entry_points(group=name)]


def _is_there(module: str) -> bool:
    try:
        return _find_file(module) is not None
    except ModuleNotFoundError:
        return False


def _file(module: str) -> Path:
    if (file := _find_file(module)) is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return file


def _find_file(module: str) -> Path | None:
    """The file of a module. Nothing is imported; `importlib` would import the parent packages.

    None for a missing module, and for a folder without an ``__init__.py``.
    """
    root, *inner = module.split(".")
    places = _places(root)
    if not places.folders:
        return None if inner else places.file
    for folder in places.folders:
        place = folder.joinpath(*inner)
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file() and (inner or file.parent == folder):
                return file
    return None


@dataclass(frozen=True)
class _Places:
    """The location of a package: its folders, or its single file."""

    folders: tuple[Path, ...]
    file: Path | None


@cache
def _places(package: str) -> _Places:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"no package named {package!r}")
    folders = spec.submodule_search_locations
    if folders is not None:
        return _Places(tuple(Path(folder) for folder in folders), None)
    return _Places((), Path(spec.origin) if spec.has_location and spec.origin else None)


@cache
def _version(package: str) -> str:
    return version(package)


@cache
def _closure(module: str) -> frozenset[str]:
    _file(module)
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name and name not in reached:
            reached.add(name)
            waiting += [*(_imports(name) if _find_file(name) else ()), name.rpartition(".")[0]]
    return frozenset(filter(_find_file, reached))


def _imports(module: str) -> list[str]:
    root, file = module.split(".", maxsplit=1)[0], _file(module)
    followed = {root} if root in PROJECT else {root, LIBRARY}
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = [_absolute(name, package) for name in _imported_names(file.read_bytes())]
    return [name for name in names if name.split(".")[0] in followed and _find_file(name)]


def _absolute(name: str, package: str) -> str:
    """The absolute name of a relative import such as ``..part`` in a package."""
    inner = name.lstrip(".")
    above = len(name) - len(inner) - 1
    if above < 0:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - above], *filter(None, [inner])])


@cache
def _imported_names(source: bytes) -> list[str]:
    """Names that a source file imports; an imported name may be a module or an object in it.

    Relative names begin with dots.
    """
    with _PARSER:
        tree = ast.parse(source)
    names = []
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            joint = "" if base.endswith(".") else "."
            names += [base, *(f"{base}{joint}{alias.name}" for alias in node.names)]
    return names


def _statements(statements: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Every statement, of any depth; expressions, most of a tree, hold none."""
    waiting = [*statements]
    while waiting:
        yield (node := waiting.pop())
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())
