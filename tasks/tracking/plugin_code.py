"""The source of plug-ins from outside the project that a model needs, as a version carries it."""

import importlib.util
import json
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from packaging.requirements import Requirement

from transfer.modalities import lookup
from transfer.modalities.backbone import Body
from transfer.models.network import COMBINED, backbone_names


def needed(model_folder: Path) -> list[EntryPoint]:
    """Entry points of the modality and the backbones that a model folder needs from other packages.

    Raises:
        SettingsError: one of them is not installed.
    """
    card = json.loads((model_folder / "card.json").read_text(encoding="utf-8"))
    bodies = [Body.model_validate(member["body"]) for member in card["members"]]
    name = card["spec"]["modality"]
    modality, names = lookup.get(name), sorted(backbone_names(*bodies) - set(COMBINED))
    points = [lookup.entry_point(name), *map(modality.backbone_entry_point, names)]
    return [point for point in points if point]


def files(points: Iterable[EntryPoint]) -> dict[str, bytes]:
    """Content by path in the archive: each plug-in's package, and the metadata that offers it."""
    found: dict[str, bytes] = {}
    for point in points:
        found |= _source(point.module)
    return found | _metadata(points)


def requirements(points: Iterable[EntryPoint], known: Iterable[str]) -> list[str]:
    """What the plug-ins' packages require beside the known packages, pinned as installed here.

    The plug-ins' own packages are not among them: their source is carried along.
    """
    own = {point.dist.name.lower() for point in points if point.dist}
    skipped = {*known, *own, "crosstrain"}
    wanted = [Requirement(text) for p in points if p.dist for text in p.dist.requires or ()]
    return sorted(
        {
            _pinned(one)
            for one in wanted
            if one.name.lower() not in skipped
            and (one.marker is None or one.marker.evaluate({"extra": ""}))
        }
    )


def _pinned(one: Requirement) -> str:
    try:
        return f"{one.name}=={installed(one.name).split('+')[0]}"
    except PackageNotFoundError:
        return str(one)


def _source(module: str) -> dict[str, bytes]:
    """The Python files of the package that a module lies in; of a lone module, its file."""
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        spec = importlib.util.find_spec(".".join(names[:depth]))
        if spec is None or spec.origin is None:  # a folder that several packages share
            continue
        file = Path(spec.origin)
        if spec.submodule_search_locations is None:
            return {"/".join([*names[: depth - 1], file.name]): file.read_bytes()}
        top, inner = file.parent, "/".join(names[:depth])
        return {
            f"{inner}/{path.relative_to(top).as_posix()}": path.read_bytes()
            for path in sorted(top.rglob("*.py"))
        }
    return {}


def _metadata(points: Iterable[EntryPoint]) -> dict[str, bytes]:
    """A ``dist-info`` for each package, by which the plug-in lookup finds it in the archive."""
    offered: dict[tuple[str, str], list[str]] = {}
    for point in points:
        package = (point.dist.name, point.dist.version) if point.dist else ("plugin", "0")
        offered.setdefault(package, []).append(f"[{point.group}]\n{point.name} = {point.value}")
    found = {}
    for (name, version), entries in offered.items():
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        found[f"{folder}/METADATA"] = about.encode()
        text = "\n".join([*entries, ""])
        found[f"{folder}/entry_points.txt"] = text.encode()
    return found
