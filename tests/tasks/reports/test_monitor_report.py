"""The monitoring page loads no resource and shows everything; the terminal shows the same."""

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
def monitored(tmp_path_factory):
    """The report on dark images, one of an unknown class, and broken files, with its inputs."""
    folder = tmp_path_factory.mktemp("new")
    write(folder, [*(f"{i:02d} <b>.png" for i in range(15)), "acer/x.png", "quercus/<i>.png"])
    for path in folder.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 3).save(path)
    for i in range(4):
        (folder / f"cut{i}.jpg").write_bytes(b"\xff\xd8")
    predictor = model()
    drift_reference = reference.make(predictor, items(60), usable=98, rejected=2, right=50)
    source = new_data.new_items(folder, predictor.card)
    new_items = new_data.observe(predictor, source, most=1000, seed=0)
    report = judge(
        drift_reference,
        new_items,
        tiny.CLASSES,
        SETTINGS,
        target="hedge",
        model="crosstrain-hedge",
        version=2,
        folder="<new>",
    )
    return report, drift_reference, new_items, source


@pytest.fixture(scope="module")
def drawn(monitored):
    return monitor_plots.draw(*monitored)


def printed(report):
    console = Console(file=io.StringIO(), width=100)
    monitor_report.terminal(report, console)
    return " ".join(console.file.getvalue().split())


def test_the_page_loads_nothing_and_escapes_names(monitored, drawn):
    page = monitor_report.render(monitored[0], drawn)
    assert set(drawn) == {"map", "summary", "classes", "drawn", "unusual"}
    assert page.count("<svg") == 5
    outside = [a for a in re.findall(r'(?:src|href)="([^"]*)"', page) if not a.startswith("#")]
    assert all(address.startswith("data:") for address in outside), outside[:3]
    assert "<b>.png" not in page and "<i>.png" not in page and "<new>" not in page
    assert "&lt;new&gt;" in page and "“quercus”" in page


def test_every_test_and_every_reject_is_on_the_page(monitored, drawn):
    report = monitored[0]
    page = monitor_report.render(report, drawn)
    assert report.drift and "summary" in [test.name for test in report.drifted]
    for test in report.tests:
        assert f'<th scope="row">{test.name}</th>' in page
    assert all(f"cut{i}.jpg" in page for i in range(4))
    assert "not tested" in page  # accuracy: one label is too few
    assert all(item.id in page.replace("&lt;", "<").replace("&gt;", ">") for item in report.unusual)


def test_without_a_readable_item_there_is_also_a_page(monitored):
    report = monitored[0].model_copy(
        update={"items": 0, "accuracy": None, "confidence": None, "unusual": []}
    )
    assert monitor_plots.draw(report, *monitored[1:]) == {}
    page = monitor_report.render(report, {})
    assert "There is no readable item" in page and "<svg" not in page


def test_the_terminal_and_the_artifact_show_the_same(monitored):
    report = monitored[0]
    text, note = printed(report), monitor_report.markdown(report)
    assert report.sentence in text
    assert "1 of 'quercus'" in text and "4 unreadable" in text
    assert f"Expected {100 * report.expected.accuracy:.1f}%" in text
    assert note.count("\n| ") == 7
    assert "\\<new\\>" in note and "A retrain" in note + text


def test_an_estimate_by_confidence_is_marked_invalid_after_drift(monitored):
    report = monitored[0]
    alone = report.accuracy.model_copy(update={"kind": "confidence"})
    drifted = report.model_copy(update={"accuracy": alone})
    assert monitor_report.basis(drifted).endswith("drifted: not valid here")
    calm = [test.model_copy(update={"drifted": test.name == "rejects"}) for test in report.tests]
    only_rejects = drifted.model_copy(update={"tests": calm})
    assert monitor_report.basis(only_rejects).endswith("nothing has drifted")


def test_names_of_several_scripts_and_many_classes_are_drawn(monitored):
    report = monitored[0]
    share = report.classes[0]
    many = [share.model_copy(update={"name": f"été {i} $x$", "new": i / 4000}) for i in range(80)]
    figure = monitor_plots.classes(many)
    assert len(figure.axes[0].get_yticklabels()) == 25
    assert "25 of 80" in figure.get_suptitle()
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "été 79 $x$"


def test_a_removed_item_leaves_no_gap_in_the_sheet(monitored, tmp_path):
    write(tmp_path, ["a.png", "b.png"])
    source = new_data.new_items(tmp_path, model().card)
    (tmp_path / "a.png").unlink()
    figure = monitor_plots.sheet(["a.png", "b.png"], source, "Some")
    assert figure.axes[0].images[0].get_array().shape[:2] == (12, 12 * 6 + 2 * 5)


def test_one_constant_feature_can_be_drawn():
    figure = monitor_plots.scatter(np.ones((5, 2)), np.ones((3, 2)), [0])
    assert len(figure.axes[0].collections) == 3
