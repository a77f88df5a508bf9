"""Write what is generated from the code: params.yaml's comments and order, prefect.yaml, the tables
of methods, their number in README.md.

    make generate

Values of params.yaml stay as they are; settings that it lacks get their defaults, and those that
no longer exist go. prefect.yaml offers what `crosstrain serve` does, with those values that are no
defaults. Tests hold the files to the code.
"""

import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from flows.operation.deployments import ONE_AT_A_TIME, deployments
from transfer.methods.lookup import known
from transfer.settings.project import Settings
from transfer.training.method import Method

ROOT = Path(__file__).parents[1]
PARAMS, TABLE = ROOT / "params.yaml", ROOT / "docs" / "methods.md"
PREFECT, README = ROOT / "prefect.yaml", ROOT / "README.md"
HEAD = """\
# The only numbers a person changes; each is typed and checked in transfer/, beside the code it
# configures. Override one for a run: crosstrain retrain --set 'adapt.seeds=[0,1]'
"""
PREFECT_HEAD = """\
# For work pools; `crosstrain serve` needs none of this. Made by tools/generate.py from params.yaml.
#   prefect work-pool create crosstrain --type process
#   prefect deploy --all
#   prefect worker start --pool crosstrain
"""
COUNT = re.compile(r"There are \d+ \[methods\]")
START, END = "<!-- table of methods -->", "<!-- end of the table of methods -->"
WIDTH = 100


def params(values: dict[str, Any]) -> str:
    """Text of params.yaml with these values, where a setting has one."""
    default = Settings()
    plain = default.model_dump(mode="json", by_alias=True)
    return HEAD + "\n" + "\n".join(_section(default, plain, values, 0))


def _section(
    default: BaseModel, plain: dict[str, Any], values: dict[str, Any], depth: int
) -> list[str]:
    lines: list[str] = []
    for name, field in type(default).model_fields.items():
        key, preset = field.alias or name, getattr(default, name)
        value = values.get(key, plain[key])
        if isinstance(preset, BaseModel):
            told = field.description or type(preset).__doc__ or ""
            inner = _section(preset, plain[key], value, depth + 1)
            head = f"{'  ' * depth}{key}:" if inner else f"{'  ' * depth}{key}: {{}}"
            lines += [*_comment(told, depth), head, *inner]
        else:
            lines += _leaf(key, value, field.description or "", depth)
        lines += [""] if depth == 0 else []
    return lines


def _comment(text: str, depth: int) -> list[str]:
    first = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    mark = f"{'  ' * depth}# "
    return textwrap.wrap(first, WIDTH - 4, initial_indent=mark, subsequent_indent=mark)


def _leaf(key: str, value: Any, told: str, depth: int) -> list[str]:
    indent = "  " * depth
    text = f"{indent}{key}: {_yaml(value)}"
    inline = f"{text}  # {' '.join(told.split())}"
    if _is_table(value):
        rows = [f"{indent}  - {_yaml(one)}" for one in value]
        return [*_comment(told, depth), f"{indent}{key}:", *rows]
    return [inline] if len(inline) <= WIDTH else [*_comment(told, depth), text]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def prefect(values: dict[str, Any]) -> str:
    """Text of prefect.yaml, with the deployments of settings that have these values."""
    settings = Settings.model_validate(values)
    full = settings.model_dump(mode="json", by_alias=True)
    changed = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    offered = []
    for one in deployments(settings):
        module, _, function = str(one.entrypoint).rpartition(".")
        told = {k: changed if value == full else value for k, value in one.parameters.items()}
        schedules = [
            {"cron": s.schedule.cron, "timezone": s.schedule.timezone} for s in one.schedules or []
        ]
        triggers = [t.model_dump(mode="json", exclude_defaults=True) for t in one.triggers]
        offered.append(
            {
                "name": one.name,
                "entrypoint": f"{module.replace('.', '/')}.py:{function}",
                "parameters": told,
                "schedules": schedules,
                "triggers": [{"type": "event", **t} for t in triggers],
                "concurrency_limit": ONE_AT_A_TIME.model_dump(mode="json", exclude_none=True),
                "tags": one.tags,
                "work_pool": {"name": "crosstrain"},
            }
        )
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}]
    told = {"name": "crosstrain", "prefect-version": None, "pull": pull, "deployments": offered}
    return PREFECT_HEAD + yaml.safe_dump(told, sort_keys=False, width=WIDTH, allow_unicode=True)


def own_methods() -> dict[str, type[Method]]:
    """Methods of this project, by name; not those of other installed packages."""
    return {n: kind for n, kind in known().items() if kind.__module__.startswith("transfer.")}


def table() -> str:
    """Markdown tables of every method, one a family: what it does, what it reads, its paper."""
    families: dict[str, list[str]] = {}
    for name, kind in own_methods().items():
        row = f"| `{name}` | {_purpose(kind)} | {_reads(kind)} | {_paper(kind)} |"
        families.setdefault(kind.__module__.rpartition(".")[0], []).append(row)
    return "\n\n".join(_family(name, families[name]) for name in sorted(families))


def _family(package: str, rows: list[str]) -> str:
    """The table of one folder of transfer/methods/, under the first paragraph of its docstring."""
    told = (import_module(package).__doc__ or "").split("\n\n")[0]
    title = package.rpartition(".")[2].replace("_", " ").capitalize()
    head = ["| method | what it does | reads | paper |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", " ".join(told.split()), "", *head, *rows])


def counted(readme: str) -> str:
    """README.md with the number of methods that there are."""
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
    values = yaml.safe_load(PARAMS.read_text())
    PARAMS.write_text(params(values))
    PREFECT.write_text(prefect(yaml.safe_load(PARAMS.read_text())))
    README.write_text(counted(README.read_text()))
    before, rest = TABLE.read_text().split(START)
    TABLE.write_text(f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
