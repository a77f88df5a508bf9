"""Write what is generated from the code: docs/settings.md, the table of methods in docs/methods.md,
prefect.yaml of a new project, and the files that this clone, a project too, shares with new ones.

    python tools/generate.py

Tests hold the files to the code.
"""

import inspect
from itertools import groupby
from pathlib import Path

from flows.operation import prefect_yaml
from tasks.versioning import new_project
from transfer.methods.lookup import known
from transfer.settings import project
from transfer.settings.project import Settings
from transfer.settings.reference import Row, rows
from transfer.training.method import Method

ROOT = Path(__file__).parents[1]
PARAMS, PREFECT = ROOT / "params.yaml", ROOT / "prefect.yaml"
TABLE, REFERENCE = ROOT / "docs" / "methods.md", ROOT / "docs" / "settings.md"
SHARED = (".dvc/.gitignore", ".dvc/config", ".dvc/plots.html", ".dvc/plots/curves.json")
SHARED += ("dvc.yaml", "mlruns/README.md")
"""Files that are the same in this clone and in a new project."""
REFERENCE_HEAD = """\
# Settings

Every setting of a project. `params.yaml` holds those that differ from their defaults; `--set
NAME=VALUE` sets one for a run, and `crosstrain settings PREFIX` prints this page in part. Which
settings are written where is told in [projects.md](projects.md).

A name with `[]` belongs to each entry of a list, one with `[rule=x]` to the entries of that kind.
Values are YAML. Shares are from 0 to 1. This page is made by `python tools/generate.py`.
"""
START, END = "<!-- table of methods -->", "<!-- end of the table of methods -->"


def reference() -> str:
    """Content of docs/settings.md: a table for each section, a method's settings being one."""
    parts = [REFERENCE_HEAD]
    for section, found in groupby(rows(), _section):
        lines = [f"\n## {section}\n", "| setting | default | range | what it does |"]
        parts += [*lines, "|---|---|---|---|", *(_line(row) for row in found)]
    return "\n".join(parts) + "\n"


def _section(row: Row) -> str:
    first, *more = row.name.split("[")[0].split(".")
    return f"{first}.{more[0]}" if first == "methods" else first


def _line(row: Row) -> str:
    cells = [f"`{row.name}`", f"`{row.default}`" if row.default else "", row.range]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, row.description]) + " |"


def table() -> str:
    """Markdown table of every method: what it does, what it reads, where it is from."""
    lines = ["| method | what it does | reads | paper |", "|---|---|---|---|"]
    for name, kind in known().items():
        lines.append(f"| `{name}` | {_purpose(kind)} | {_reads(kind)} | {_paper(kind)} |")
    return "\n".join(lines)


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
    before, rest = TABLE.read_text().split(START)
    TABLE.write_text(f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
