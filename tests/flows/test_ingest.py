"""The options of the command, and the form of the flow in Prefect's UI."""

import subprocess
import sys
from pathlib import Path

import pytest

CROSSTRAIN = Path(sys.executable).with_name("crosstrain")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--help"], 0, "Example: crosstrain ingest delivery.zip --dataset plants"),
        ([], 2, "expected one of: a delivery, --resume, --take-back"),
        (["new", "--resume", "--dataset", "plants"], 2, "expected one of"),
        (["new"], 2, "a delivery needs --dataset NAME"),
        (["--take-back"], 4, "no ingest was interrupted"),
    ],
)
def test_conflicting_or_missing_options_are_reported(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    done = subprocess.run(
        [CROSSTRAIN, "ingest", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert message in " ".join((done.stdout + done.stderr).split())


def test_every_parameter_is_in_the_form_with_its_description() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows import ingest, retrain

    form = parameter_schema(ingest.ingest).model_dump()
    described = {name: "description" in field for name, field in form["properties"].items()}
    assert described == dict.fromkeys(
        (
            "settings",
            "incoming",
            "dataset",
            "relabel",
            "new_classes",
            "replace",
            "commit",
            "push",
        ),
        True,
    )
    assert form["required"] == ["settings", "incoming", "dataset"]
    assert "data_rev" in parameter_schema(retrain.retrain).model_dump()["properties"]
