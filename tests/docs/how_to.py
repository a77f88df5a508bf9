"""Code of the how-to pages."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-method.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def package(folder: Path) -> Path:
    """Write the page's package ``leafnet`` as an installer would, and return its folder."""
    import tomllib

    method, _, backbone = blocks("python")
    project = tomllib.loads(blocks("toml")[0])["project"]
    root = folder / project["name"]
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "last_stage.py").write_text(method)
    (root / "leaf.py").write_text(backbone)
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        + "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"])
    )
    (about / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {module}\n" for name, module in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return root
