"""The result of validation: one row for each expectation, and the refusal with the failed rows."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transfer.core.errors import DataRefusedError

FILE = "validation.json"


@dataclass(frozen=True)
class ExpectationRow:
    """The result of one expectation."""

    dataset: str
    what: str
    column: str  # '' for an expectation about the number of rows
    found: str
    expected: str
    passed: bool
    severity: str  # critical, warning or info; only a failed critical one refuses the data
    setting: str  # the thresholds, fields of `validate:` in params.yaml
    expectation: str  # as Great Expectations names it
    examples: list[str]  # up to 5, each an id with the value of the column in brackets


@dataclass(frozen=True)
class ValidationReport:
    """All rows, in the order in which a dataset's faults are best repaired."""

    rows: list[ExpectationRow]
    not_reached: list[str]  # expectations left out because a split is missing

    @property
    def failures(self) -> list[ExpectationRow]:
        """The failed expectations that refuse the data."""
        return [row for row in self.rows if not row.passed and row.severity == "critical"]

    @property
    def warnings(self) -> list[ExpectationRow]:
        """The failed expectations that are only warnings."""
        return [row for row in self.rows if not row.passed and row.severity == "warning"]

    @property
    def passed(self) -> bool:
        """True if no failed expectation refuses the data."""
        return not self.failures

    def save(self, folder: Path) -> None:
        """Write ``validation.json`` into an existing folder."""
        content = {"passed": self.passed, **asdict(self)}
        (folder / FILE).write_text(
            json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "ValidationReport":
        """Read a report that `save` has written.

        Raises:
            DataRefusedError: the file is missing or damaged.
        """
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls([ExpectationRow(**row) for row in content["rows"]], content["not_reached"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataRefusedError(
                f"no readable {FILE} in {folder} ({error}); validate again"
            ) from error


def refuse(report: ValidationReport) -> None:
    """Stop when validation failed.

    Raises:
        DataRefusedError: an expectation failed; the message is a table of those that did.
    """
    if report.passed:
        return
    failed = report.failures
    raise DataRefusedError(
        f"validation refused the data: {len(failed)} of {len(report.rows)} expectations failed\n\n"
        f"{table(failed)}\n\n"
        "Repair the data, or change a threshold: they are in params.yaml under validate:"
    )


def table(rows: Sequence[ExpectationRow]) -> str:
    """Rows as a plain-text table; below each row are its examples and its threshold."""
    heads = ("dataset", "expectation", "column", "found", "expected")
    lines = [(r.dataset, r.what, r.column or "(rows)", r.found, r.expected) for r in rows]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    text = [_line(heads, widths), "-+-".join("-" * width for width in widths)]
    for row, line in zip(rows, lines, strict=True):
        text.append(_line(line, widths))
        if row.examples:
            text.append(f"    examples: {', '.join(row.examples)}")
        if row.setting:
            text.append(f"    threshold: {row.setting}")
    return "\n".join(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()


def printable(name: str) -> str:
    """Make a name from a dataset safe to print: no control characters, at most 101 characters."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return name if len(name) <= 101 else f"{name[:50]}\N{HORIZONTAL ELLIPSIS}{name[-50:]}"
