"""The Python face: light to import, and the same chain and registry as the command line's."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import crosstrain
from tests.e2e import project as projects
from transfer.core.errors import NothingToDoError, SettingsError

HEAVY = ("torch", "numpy", "pandas", "prefect", "mlflow", "dvc", "pydantic", "sklearn", "yaml")
FIT = """
import json, sys
import numpy as np
import crosstrain

arrays = np.load(sys.argv[1])
result = crosstrain.fit(
    (arrays["items"][:900], arrays["labels"][:900]),
    (arrays["items"][900:], arrays["labels"][900:]),
    name="small",
    source_name="large",
    adapt={"seeds": [0]},
    **json.loads(sys.argv[2]),
)
print(json.dumps([result.verdict, result.promoted, str(result.report), str(result)]))
print(result.table.to_json(orient="records"))
print(result._repr_html_())
"""


def test_importing_it_imports_nothing_heavy():
    code = f"import crosstrain, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_project_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="crosstrain project"):
        crosstrain.load("small")
    with pytest.raises(SettingsError, match="no folder"):
        crosstrain.load("small", project=tmp_path / "gone")


@pytest.fixture(scope="module")
def items():
    digits = load_digits()
    names = np.array([f"digit {number}" for number in digits.target])
    return (digits.images[:1300] * 15.9).astype(np.uint8), names[:1300]


@pytest.fixture(scope="module")
def fitted(items, tmp_path_factory):
    """A project in which `crosstrain.fit` ran, and what it printed."""
    made = projects.make(tmp_path_factory.mktemp("face") / "project", None, {})
    file = made.folder / "items.npz"
    np.savez(file, items=items[0], labels=items[1])
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(file), "{}"],
        cwd=made.folder,
        env=made.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made, done.stdout.splitlines()


def test_arrays_in_a_champion_out(fitted):
    made, printed = fitted
    verdict, promoted, report, sentence = json.loads(printed[0])
    assert verdict in ("positive", "none", "negative") and sentence
    assert promoted is True
    assert report == str(made.folder.resolve() / "reports/retrain.html")
    arms = pd.DataFrame(json.loads(printed[1]))
    assert "scratch" in set(arms["arm"]) and set(arms["seed"]) == {0}
    assert arms["test"].between(arms["test_low"], arms["test_high"]).all()
    assert "<table" in "".join(printed[2:])


def test_the_champion_answers_arrays_and_files(fitted, items, tmp_path):
    from PIL import Image

    made, _ = fitted
    model = crosstrain.load("small", project=made.folder)
    assert model.name == "crosstrain-small" and model.version == 1
    probabilities = model.predict_proba(items[0][900:])
    assert list(probabilities.columns) == sorted(set(items[1])) == list(model.classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    answers = model.predict(items[0][900:])
    assert (answers["label"].to_numpy() == items[1][900:]).mean() > 0.6
    np.testing.assert_allclose(answers["probability"], probabilities.max(axis=1))
    file = tmp_path / "digit.png"
    Image.fromarray(items[0][900]).save(file)
    alone = model.predict(file)
    assert alone.index.tolist() == [str(file)]
    assert alone["label"].tolist() == answers["label"].tolist()[:1]
    np.testing.assert_allclose(alone["probability"], answers["probability"][:1], rtol=1e-5)
    assert model.predict([]).empty


def test_an_alias_that_no_version_has_is_named(fitted):
    made, _ = fitted
    with pytest.raises(NothingToDoError, match="no previous: found challenger, champion"):
        crosstrain.load("small", alias="previous", project=made.folder)
    with pytest.raises(NothingToDoError, match="crosstrain-roses has no champion"):
        crosstrain.load("roses", project=made.folder)
