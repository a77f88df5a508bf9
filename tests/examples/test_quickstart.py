"""The notebook was executed, and what it shows still runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def code_cells() -> list[dict[str, object]]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_cell_was_executed_in_order() -> None:
    assert [cell["execution_count"] for cell in code_cells()] == [*range(1, len(code_cells()) + 1)]


def test_it_names_no_folder_of_the_machine_that_executed_it() -> None:
    text = NOTEBOOK.read_text()
    assert str(Path.home()) not in text and "site-packages" not in text


@pytest.mark.slow
def test_its_code_runs(tmp_path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in code_cells())  # type: ignore[arg-type]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test items, 2 seeds), verdict" in done.stdout
