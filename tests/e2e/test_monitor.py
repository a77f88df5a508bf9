"""New data held against a champion's own: calm, drifted, broken, labelled and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import copy
from tests.e2e.project import Project, wait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def watched(
    trained: Project,
    api: str,
    tmp_path_factory: pytest.TempPathFactory,
    write_digits: Callable[[Path, slice], None],
) -> Project:
    """The digits after their first run, with new ones beside them: as they are, and dark."""
    made = copy(trained, tmp_path_factory.mktemp("watched") / "project", api)
    write_digits(made.folder / "new", slice(1300, 1340))
    for path in (made.folder / "new").rglob("*.png"):
        place = made.folder / "dark" / path.name
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(place)
    return made


def events(api: str, name: str) -> list[dict[str, object]]:
    asked = {"filter": {"event": {"name": [name]}}, "limit": 50}
    events_of_api: list[dict[str, object]] = httpx.post(f"{api}/events/filter", json=asked).json()[
        "events"
    ]
    return events_of_api


def test_the_champion_carries_its_reference(watched: Project) -> None:
    (file,) = watched.folder.glob("mlruns/artifacts/models/*/artifacts/artifacts/model/*.npz")
    report = json.loads((watched.folder / "reports/retrain.json").read_text())
    with np.load(file, allow_pickle=False) as stored:
        assert len(stored["features"]) == report["test_items"]
        usable, rejected, tested, right = stored["counts"].tolist()
    assert (usable, rejected, tested) == (400, 0, report["test_items"])
    assert right / tested == pytest.approx(report["chosen"]["accuracy"])


def test_labelled_digits_give_an_accuracy_and_no_alarm_about_light(watched: Project) -> None:
    report = json.loads(watched.run("monitor", "new", "--target", "small", "--json").stdout)
    assert report == json.loads((watched.folder / "reports/monitor.json").read_text())
    assert report["items"] == report["accuracy"]["labelled"] == 40 and report["rejected"] == 0
    light = next(test for test in report["tests"] if test["name"] == "summary")
    assert light["p"] > 0.01
    page = (watched.folder / "reports/monitor.html").read_text()
    assert page.count("<svg") == 5


def test_dark_digits_are_drift_told_as_events_with_an_artifact(watched: Project, api: str) -> None:
    for i in range(8):
        (watched.folder / "dark" / f"cut{i}.png").write_bytes(b"\x89PNG")
    done = watched.run("monitor", "dark", "--target", "small")
    assert "Drift in" in done.stdout and "summary" in done.stdout and "rejects" in done.stdout
    wait(lambda: events(api, "crosstrain.drift"), every=0.5)
    (event,) = events(api, "crosstrain.drift")
    assert event["resource"]["prefect.resource.id"] == "crosstrain.target.small"  # type: ignore[index]
    payload = event["payload"]
    assert {"summary", "rejects"} <= set(payload["tests"])  # type: ignore[index]
    assert payload["p_values"]["summary"] <= 0.01  # type: ignore[index]
    wanted = json.loads((watched.folder / "reports/monitor.json").read_text())["retrain"]
    assert payload["retrain"] == wanted  # type: ignore[index]
    wait(lambda: bool(events(api, "crosstrain.retrain-wanted")) == wanted, every=0.5)
    artifacts = httpx.post(f"{api}/artifacts/latest/filter", json={}).json()
    assert "Drift in" in next(a["data"] for a in artifacts if a["key"] == "drift")


def test_a_champion_of_an_older_version_is_refused_with_advice(watched: Project) -> None:
    (file,) = watched.folder.glob("mlruns/artifacts/models/*/artifacts/artifacts/model/*.npz")
    file.unlink()
    done = watched.run("monitor", "new", "--target", "small", code=4)
    assert "crosstrain retrain" in done.stderr
