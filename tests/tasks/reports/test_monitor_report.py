"""The page about new data loads nothing and shows everything; the terminal is told the same."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tasks.reports import monitor_plots, monitor_report
from tests.transfer import tiny
from tests.transfer.deployment.monitoring.test_new_data import write
from tests.transfer.deployment.monitoring.test_reference import items, model
from tests.transfer.deployment.monitoring.test_report import SETTINGS
from transfer.deployment.monitoring import new_data, reference
from transfer.deployment.monitoring.report import judge


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """Dark pictures, one of a class that the model lacks, and broken files; all of it judged."""
    folder = tmp_path_factory.mktemp("new")
    write(folder, [*(f"{i:02d} <b>.png" for i in range(15)), "acer/x.png", "quercus/<i>.png"])
    for path in folder.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 3).save(path)
    for i in range(4):
        (folder / f"cut{i}.jpg").write_bytes(b"\xff\xd8")
    asked = model()
    known = reference.make(asked, items(60), usable=98, rejected=2, right=50)
    source = new_data.pictures(folder, asked.card)
    seen = new_data.observe(asked, source, most=1000, seed=0)
    told = judge(
        known,
        seen,
        tiny.CLASSES,
        SETTINGS,
        target="hedge",
        model="crosstrain-hedge",
        version=2,
        folder="<new>",
    )
    return told, known, seen, source


@pytest.fixture(scope="module")
def drawn(looked):
    return monitor_plots.draw(*looked)


def shown(told):
    console = Console(file=io.StringIO(), width=100)
    monitor_report.terminal(told, console)
    return " ".join(console.file.getvalue().split())


def test_the_page_loads_nothing_and_escapes_names(looked, drawn):
    page = monitor_report.render(looked[0], drawn)
    assert set(drawn) == {"map", "summary", "classes", "drawn", "unusual"}
    assert page.count("<svg") == 5
    outside = [a for a in re.findall(r'(?:src|href)="([^"]*)"', page) if not a.startswith("#")]
    assert all(address.startswith("data:") for address in outside), outside[:3]
    assert "<b>.png" not in page and "<i>.png" not in page and "<new>" not in page
    assert "&lt;new&gt;" in page and "“quercus”" in page


def test_every_test_and_every_reject_is_on_the_page(looked, drawn):
    told = looked[0]
    page = monitor_report.render(told, drawn)
    assert told.drift and "summary" in [test.name for test in told.drifted]
    for test in told.tests:
        assert f'<th scope="row">{test.name}</th>' in page
    assert all(f"cut{i}.jpg" in page for i in range(4))
    assert "not tested" in page  # accuracy: one label is too few
    assert all(one.id in page.replace("&lt;", "<").replace("&gt;", ">") for one in told.unusual)


def test_without_a_readable_picture_there_is_a_page_all_the_same(looked):
    told = looked[0].model_copy(
        update={"items": 0, "accuracy": None, "confidence": None, "unusual": []}
    )
    assert monitor_plots.draw(told, *looked[1:]) == {}
    page = monitor_report.render(told, {})
    assert "There is no readable picture" in page and "<svg" not in page


def test_the_terminal_and_the_artifact_tell_the_same(looked):
    told = looked[0]
    text, note = shown(told), monitor_report.markdown(told)
    assert told.sentence in text
    assert "1 of 'quercus'" in text and "4 unreadable" in text
    assert f"Expected {100 * told.expected.accuracy:.1f}%" in text
    assert note.count("\n| ") == 7
    assert "\\<new\\>" in note and "A retrain" in note + text


def test_confidence_is_said_not_to_hold_where_there_is_drift(looked):
    told = looked[0]
    alone = told.accuracy.model_copy(update={"kind": "confidence"})
    drifted = told.model_copy(update={"accuracy": alone})
    assert monitor_report.basis(drifted).endswith("drifted: not here")
    calm = [test.model_copy(update={"drifted": test.name == "rejects"}) for test in told.tests]
    only_rejects = drifted.model_copy(update={"tests": calm})
    assert monitor_report.basis(only_rejects).endswith("nothing has drifted")


def test_names_of_several_scripts_and_many_classes_are_drawn(looked):
    told = looked[0]
    share = told.classes[0]
    many = [share.model_copy(update={"name": f"été {i} $x$", "new": i / 4000}) for i in range(80)]
    figure = monitor_plots.classes(many)
    assert len(figure.axes[0].get_yticklabels()) == 25
    assert "25 of 80" in figure.get_suptitle()
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "été 79 $x$"


def test_a_picture_that_is_gone_leaves_its_place_to_the_next(looked, tmp_path):
    write(tmp_path, ["a.png", "b.png"])
    source = new_data.pictures(tmp_path, model().card)
    (tmp_path / "a.png").unlink()
    figure = monitor_plots.sheet(["a.png", "b.png"], source, "Some")
    assert figure.axes[0].images[0].get_array().shape[:2] == (12, 12 * 6 + 2 * 5)


def test_one_constant_feature_can_be_drawn():
    figure = monitor_plots.scatter(np.ones((5, 2)), np.ones((3, 2)), [0])
    assert len(figure.axes[0].collections) == 3
