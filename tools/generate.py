"""Write the files that are generated from the code: docs/settings.md, the tables of docs/methods.md
and the number of methods in README.md, prefect.yaml of a new project, and the files that this
clone, which is also a project, shares with new projects.

    make generate

Tests compare the files with the code.
"""

import inspect
import re
from importlib import import_module
from itertools import groupby
from pathlib import Path

from flows.operation import prefect_yaml
from tasks.versioning import new_project
from tools import rooms
from transfer.methods.lookup import known
from transfer.settings import project
from transfer.settings.project import Settings
from transfer.settings.reference import Row, rows
from transfer.training.method import Method

ROOT = Path(__file__).parents[1]
PARAMS, PREFECT = ROOT / "params.yaml", ROOT / "prefect.yaml"
README, TABLE, REFERENCE = (
    ROOT / "README.md",
    ROOT / "docs" / "methods.md",
    ROOT / "docs" / "settings.md",
)
SHARED = (".dvc/.gitignore", ".dvc/config", ".dvc/plots.html", ".dvc/plots/curves.json")
SHARED += ("dvc.yaml", "mlruns/README.md")
"""Files that are the same in this clone and in a new project."""
REFERENCE_HEAD = """\
# Settings

Every setting of a project. `params.yaml` holds those that differ from their defaults; `--set
NAME=VALUE` sets one for a run, and `crosstrain settings PREFIX` prints this page in part.
[projects.md](projects.md) explains which settings are written where.

A name with `[]` belongs to each entry of a list, one with `[rule=x]` to the entries of that kind.
Values are YAML. Shares are from 0 to 1. This page is made by `make generate`.
"""
COUNT = re.compile(r"There are \d+ \[methods\]")
START, END = "<!-- table of methods -->", "<!-- end of the table of methods -->"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ROOMS_START, ROOMS_END = "<!-- rooms -->", "<!-- end of rooms -->"


def reference() -> str:
    """Content of docs/settings.md: a table for each section, and one for each method."""
    parts = [REFERENCE_HEAD]
    for section, section_rows in groupby(rows(), _section):
        lines = [f"\n## {section}\n", "| setting | default | range | what it does |"]
        parts += [*lines, "|---|---|---|---|", *(_line(row) for row in section_rows)]
    return "\n".join(parts) + "\n"


def _section(row: Row) -> str:
    first, *more = row.name.split("[")[0].split(".")
    return f"{first}.{more[0]}" if first == "methods" else first


def _line(row: Row) -> str:
    cells = [f"`{row.name}`", f"`{row.default}`" if row.default else "", row.range]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, row.description]) + " |"


def own_methods() -> dict[str, type[Method]]:
    """Methods of this project, by name; not those of other installed packages."""
    return {n: kind for n, kind in known().items() if kind.__module__.startswith("transfer.")}


def table() -> str:
    """Markdown tables of every method, one per family: what it does, what it reads, its paper."""
    families: dict[str, list[str]] = {}
    for name, kind in own_methods().items():
        row = f"| `{name}` | {_purpose(kind)} | {_reads(kind)} | {_paper(kind)} |"
        families.setdefault(kind.__module__.rpartition(".")[0], []).append(row)
    return "\n\n".join(_family(name, families[name]) for name in sorted(families))


def _family(package: str, rows: list[str]) -> str:
    """The table of one folder of transfer/methods/, under the first paragraph of its docstring."""
    purpose = (import_module(package).__doc__ or "").split("\n\n")[0]
    title = package.rpartition(".")[2].replace("_", " ").capitalize()
    head = ["| method | what it does | reads | paper |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", " ".join(purpose.split()), "", *head, *rows])


def counted(readme: str) -> str:
    """README.md with the present number of methods."""
    return COUNT.sub(f"There are {len(own_methods())} [methods]", readme)


def _purpose(kind: type[Method]) -> str:
    return " ".join((inspect.getmodule(kind).__doc__ or "").split("\n\n")[0].split()).rstrip(".")


def _reads(kind: type[Method]) -> str:
    parts = ["labels" if kind.needs_labels else "labels, if any"]
    parts += ["source weights"] if kind.uses_source and not kind.combines else []
    parts += ["every source"] if kind.combines else []
    parts += ["source items"] if kind.reads_source else []
    parts += ["unlabelled items"] if kind.reads_pool else []
    return ", ".join(parts)


def _paper(kind: type[Method]) -> str:
    return kind.paper


def main() -> None:
    """Rewrite the files."""
    (new_project.TEMPLATE / "prefect.yaml").write_text(prefect_yaml.text(Settings()))
    contents = new_project.contents()
    for name in SHARED:
        (ROOT / name).write_bytes(contents[Path(name)])
    PREFECT.write_text(prefect_yaml.text(project.load(PARAMS)))
    REFERENCE.write_text(reference())
    README.write_text(counted(README.read_text()))
    _rewrite(TABLE, START, table(), END)
    _rewrite(ARCHITECTURE, ROOMS_START, rooms.page(), ROOMS_END)


def _rewrite(file: Path, start: str, text: str, end: str) -> None:
    """Put a text between two marks of a file."""
    before, rest = file.read_text().split(start)
    file.write_text(f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
