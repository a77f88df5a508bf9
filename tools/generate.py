"""Write what is generated from the code: params.yaml's comments and order, prefect.yaml, the table
of methods.

    python tools/generate.py

Values of params.yaml stay as they are; settings that it lacks get their defaults, and those that
no longer exist go. prefect.yaml offers what `crosstrain serve` does, with those values that are no
defaults. Tests hold the files to the code.
"""

import inspect
import textwrap
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
PREFECT = ROOT / "prefect.yaml"
HEAD = """\
# The only numbers a person changes; each is typed and checked in transfer/, beside the code it
# configures. Override one for a run: crosstrain retrain --set 'adapt.seeds=[0,1]'
"""
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
    values = yaml.safe_load(PARAMS.read_text())
    PARAMS.write_text(params(values))
    PREFECT.write_text(prefect(yaml.safe_load(PARAMS.read_text())))
    before, rest = TABLE.read_text().split(START)
    TABLE.write_text(f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
