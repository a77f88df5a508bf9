"""The command's words, and the form that Prefect's UI makes of the flow."""

import subprocess
import sys
from pathlib import Path

import pytest

CROSSTRAIN = Path(sys.executable).with_name("crosstrain")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--help"], 0, "Example: crosstrain ingest delivery.zip --dataset plants"),
        ([], 2, "expected one of: a delivery, --resume, --take-back"),
        (["new", "--resume", "--dataset", "plants"], 2, "expected one of"),
        (["new"], 2, "a delivery needs --dataset NAME"),
        (["--take-back"], 4, "no ingest was interrupted"),
    ],
)
def test_words_that_say_too_much_or_too_little(
    tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    done = subprocess.run(
        [CROSSTRAIN, "ingest", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert told in " ".join((done.stdout + done.stderr).split())


def test_every_parameter_is_in_the_form_with_its_description() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows import ingest, retrain

    form = parameter_schema(ingest.ingest).model_dump()
    described = {name: "description" in told for name, told in form["properties"].items()}
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
