"""The source of the external plug-ins that a model needs, for the archive of its version."""

import importlib.util
import json
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from packaging.requirements import Requirement

from transfer.core import plugins
from transfer.modalities import lookup
from transfer.modalities.backbone import BackboneSpec
from transfer.models.network import COMBINED, backbone_names


def needed(model_folder: Path) -> list[EntryPoint]:
    """Entry points of the modality and the backbones that a model folder needs from other packages.

    Raises:
        SettingsError: an external backbone is not installed.
    """
    card = json.loads((model_folder / "card.json").read_text(encoding="utf-8"))
    backbone_specs = [
        BackboneSpec.model_validate(member["backbone_spec"]) for member in card["members"]
    ]
    name = card["spec"]["modality"]
    found = [plugins.entry_point(lookup.KIND, name)]
    if (kind := lookup.get(name).backbone_plugins) is not None:
        used = backbone_names(*backbone_specs) - set(COMBINED)
        found += [plugins.entry_point(kind, backbone) for backbone in sorted(used)]
    return [point for point in found if point]


def files(points: Iterable[EntryPoint]) -> dict[str, bytes]:
    """Content by path in the archive: each plug-in's package, and its entry-point metadata."""
    content: dict[str, bytes] = {}
    for point in points:
        content |= _source(point.module)
    return content | _metadata(points)


def requirements(points: Iterable[EntryPoint], known: Iterable[str]) -> list[str]:
    """Requirements of the plug-ins' packages that are not known, pinned to the installed versions.

    The plug-ins' own packages are not included: their source is in the archive.
    """
    own = {point.dist.name.lower() for point in points if point.dist}
    skipped = {*known, *own, "crosstrain"}
    wanted = [Requirement(text) for p in points if p.dist for text in p.dist.requires or ()]
    return sorted(
        {
            _pinned(requirement)
            for requirement in wanted
            if requirement.name.lower() not in skipped
            and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
        }
    )


def _pinned(requirement: Requirement) -> str:
    try:
        return f"{requirement.name}=={installed(requirement.name).split('+')[0]}"
    except PackageNotFoundError:
        return str(requirement)


def _source(module: str) -> dict[str, bytes]:
    """The Python files of a module's top-level package; for a single-file package, that file."""
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        spec = importlib.util.find_spec(".".join(names[:depth]))
        if spec is None or spec.origin is None:  # a namespace package, shared by several packages
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
    """A ``dist-info`` for each package, with which the plug-in lookup finds it in the archive."""
    offered: dict[tuple[str, str], dict[str, list[str]]] = {}
    for point in points:
        package = (point.dist.name, point.dist.version) if point.dist else ("plugin", "0")
        groups = offered.setdefault(package, {})
        groups.setdefault(point.group, []).append(f"{point.name} = {point.value}")
    content = {}
    for (name, version), groups in offered.items():
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        content[f"{folder}/METADATA"] = about.encode()
        sections = ["\n".join([f"[{group}]", *rows, ""]) for group, rows in groups.items()]
        text = "\n".join(sections)
        content[f"{folder}/entry_points.txt"] = text.encode()
    return content
