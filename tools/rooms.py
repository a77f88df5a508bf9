"""The packages and their folders, from the code and its import contracts: for
docs/architecture.md."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("crosstrain", "flows", "tasks", "transfer")
"""From the top down: each imports only those after it."""


def page() -> str:
    """Markdown of every room of every package, from the top layer down."""
    return "\n".join(line for package in PACKAGES for line in _section(package))


def layers(package: str) -> list[list[str]]:
    """Rooms of a package in layers, as in the import contract; the top layer first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract.get("containers") == [package]:
            return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]
    return []


def docstring(module: Path) -> str:
    """A module's docstring without examples, as one line of text; empty where it has none."""
    text = ast.get_docstring(ast.parse(module.read_text())) or ""
    return " ".join(text.partition(">>>")[0].split())


def folders(package: str) -> list[Path]:
    """A package and every folder of modules in it."""
    return sorted(path.parent for path in (ROOT / package).rglob("__init__.py"))


def _section(package: str) -> list[str]:
    lines = [f"### {package}/", "", docstring(ROOT / package / "__init__.py"), ""]
    rooms = layers(package)
    if not rooms:
        return lines
    lines += ["| layer | room | what it contains |", "|---|---|---|"]
    for number, names in zip(range(len(rooms), 0, -1), rooms, strict=True):
        lines += [
            f"| {number} | {_name(package, room)} | {_purpose(package, room)} |" for room in names
        ]
    return [*lines, ""]


def _name(package: str, room: str) -> str:
    place = ROOT / package / room
    inner = sorted(path.parent.name for path in place.glob("*/__init__.py"))
    more = f": {', '.join(inner)}" if inner else ""
    return f"`{package}/{room}{'/' if place.is_dir() else '.py'}`{more}"


def _purpose(package: str, room: str) -> str:
    place = ROOT / package / room
    return docstring(place / "__init__.py" if place.is_dir() else place.with_suffix(".py"))
