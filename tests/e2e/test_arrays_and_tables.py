"""Datasets of every kind through the whole chain: arrays, manifests, colour JPEGs of many sizes.

One of the two sources is noise, which cannot help: it must neither be reported as helpful nor win.
"""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.project import Project, together

pytestmark = pytest.mark.slow

NAMES = ("rings", "bars", "spots")
SIDES = ((20, 20), (31, 24), (24, 40))
MARGIN = 0.03


def picture(kind: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A ring, bars or spots, in colours and at a place of its own; H x W x 3 uint8."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    centre, phase = rng.uniform(0.35, 0.65, 2), rng.uniform(0, 2 * np.pi)
    far = np.hypot(y - centre[0], x - centre[1])
    shape = (
        np.abs(far - 0.25) < 0.09,
        np.sin(14 * x + phase) > 0,
        (np.sin(16 * x + phase) * np.sin(16 * y + phase)) > 0.3,
    )[kind]
    ink, paper = rng.integers(120, 256, 3), rng.integers(0, 80, 3)
    noise = rng.normal(0, 10, (height, width, 3))
    return np.clip(np.where(shape[..., None], ink, paper) + noise, 0, 255).astype(np.uint8)


def write_jpegs(folder: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """Write JPEGs of mixed sizes, one folder a class; path inside the folder and class of each."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(count):
        kind = i % len(NAMES)
        path = f"{NAMES[kind]}/{i:03}.jpg"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(kind, *SIDES[i % 7 % 3], rng)).save(folder / path, quality=90)
        rows.append((path, NAMES[kind]))
    return rows


def write_arrays(file: Path, count: int, seed: int, *, noise: bool = False) -> None:
    """Write an .npz of images, or of random pixels with random labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(NAMES))
    images = np.stack([picture(kind, 18, 18, rng) for kind in labels])
    if noise:
        images = rng.integers(0, 256, images.shape, np.uint8)
    file.parent.mkdir(exist_ok=True)
    np.savez(file, images=images, labels=labels, class_names=np.array(NAMES))


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, make_project: Callable[..., Project]
) -> tuple[Project, Project]:
    """A folder of JPEGs to an .npz, and an .npz of noise to a CSV manifest, after their runs."""
    root = tmp_path_factory.mktemp("kinds")
    to_arrays = make_project(root / "arrays", {"target.path": "data/small.npz"})
    write_jpegs(to_arrays.folder / "data/large", 180, seed=1)
    write_arrays(to_arrays.folder / "data/small.npz", 150, seed=2)
    changes = {
        "source.path": "data/noise.npz",
        "target.path": "data/small/items.csv",
        "target.name": "small",
        "adapt.training.steps": 80,
        "promote.rules": [
            {"rule": "not_worse_than_scratch", "margin": MARGIN},
            {"rule": "loads_back", "tolerance": 1e-5},
        ],
    }
    to_table = make_project(root / "table", changes)
    write_arrays(to_table.folder / "data/noise.npz", 180, seed=4, noise=True)
    rows = write_jpegs(to_table.folder / "data/small", 240, seed=3)
    with (to_table.folder / "data/small/items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    together([partial(made.run, "retrain") for made in (to_arrays, to_table)])
    return to_arrays, to_table


@pytest.mark.parametrize("index", [0, 1], ids=["npz", "csv"])
def test_result_tells_of_both_datasets(runs: tuple[Project, Project], index: int) -> None:
    result = runs[index].result()
    (source,), target = result.data.sources, result.data.target
    assert (source.items, target.items) == (180, (150, 240)[index])
    assert set(source.classes) == set(target.classes) == set(NAMES)
    assert target.train + target.val + target.test + target.excluded == target.items
    assert [c.name for c in result.classes] == target.classes
    assert result.chosen.accuracy > 0.5
    assert len(result.arms) == 2


@pytest.mark.parametrize("index", [0, 1], ids=["npz", "csv"])
def test_registered_model_loads_back_and_takes_colour(
    runs: tuple[Project, Project], index: int
) -> None:
    (rule,) = [rule for rule in runs[index].result().rules if rule.rule == "loads_back"]
    assert rule.passed, rule.found
    (card,) = runs[index].folder.glob("mlruns/artifacts/**/model/card.json")
    card_values = json.loads(card.read_text())
    assert (card_values["spec"]["size"], card_values["spec"]["channels"]) == (12, 3)


def test_noise_is_not_called_a_help(runs: tuple[Project, Project]) -> None:
    result = runs[1].result()
    assert result.scratch.accuracy > 0.6  # there is something to lose
    assert result.verdict in ("none", "negative")
    assert [source.verdict for source in result.sources] != ["positive"]


def test_what_is_promoted_is_not_worse_than_scratch_beyond_noise(
    runs: tuple[Project, Project],
) -> None:
    result = runs[1].result()
    assert not result.promoted or result.gain.high >= 0
    assert [rule.rule for rule in result.rules] == ["not_worse_than_scratch", "loads_back"]
    assert result.rules[0].passed == (result.gain.low >= -MARGIN)
    assert result.promoted == all(rule.passed for rule in result.rules)
