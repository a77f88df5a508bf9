"""The plots show their figures, and can share a page."""

import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from tasks.reports import plot_style, report_plots
from transfer.evaluation.report_schema import ClassFigures, Result
from transfer.modalities import lookup

MODALITY = lookup.get("image")


@pytest.fixture(scope="module")
def result():
    path = Path(__file__).with_name("retrain.json")
    return Result.model_validate_json(path.read_text(encoding="utf-8"))


def of_classes(result, names):
    """The result with other classes, and a confusion of about one error in ten."""
    k = len(names)
    draw = np.random.default_rng(k)
    counts = np.diag(draw.integers(20, 40, k))
    counts[np.arange(k), (np.arange(k) + 1) % k] += draw.integers(0, 5, k)
    classes = [
        ClassFigures(name=name, items=int(n), precision=0.9, recall=r, f1=0.9)
        for name, n, r in zip(names, counts.sum(1), draw.random(k), strict=True)
    ]
    return result.model_copy(update={"classes": classes, "confusion": counts.tolist()})


def curves():
    runs = [("pretrain", [100, 200]), ("scratch/0", []), ("l2_sp/0", []), ("l2_sp/1", [])]
    return [
        {
            "name": name,
            "step": [50, 100, 150, 200],
            "loss": [2.0, 1.5, 1.2, 1.0 + number],
            "validation_step": looks,
            "validation": [1.4, 1.1][: len(looks)],
        }
        for number, (name, looks) in enumerate(runs)
    ]


def words(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def ticks(axis):
    return [t.get_text() for t in axis.get_ticklabels()]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_the_first_items_of_each_class_in_its_row(channels):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, channels, 6, 6), np.uint8)
    labels = draw.permutation(np.repeat([0, 1, 2], [30, 8, 2]))
    figure = report_plots.sample_sheet(
        images, labels, ["a", "b", "c"], MODALITY, per_class=4, title="T"
    )
    sheet = figure.axes[0].images[0].get_array()
    for k in range(3):
        members = [i for i in range(40) if labels[i] == k][:4]
        for c in range(4):
            cell = sheet[k * 8 : k * 8 + 6, c * 8 : c * 8 + 6]
            if c < len(members):
                expected = np.moveaxis(images[members[c]], 0, -1)
                assert (cell[..., :3] == expected).all() and (cell[..., 3] == 255).all()
            else:
                assert not cell.any()
    assert ticks(figure.axes[0].yaxis) == ["a", "b", "c"]


def test_a_sheet_stops_at_twenty_classes_and_notes_it():
    images, labels = np.zeros((21, 1, 4, 4), np.uint8), np.arange(21)
    names = [f"class {k}" for k in range(21)]
    figure = report_plots.sample_sheet(images, labels, names, MODALITY, title="Source")
    assert "Source (first 20 of 21 classes)" in words(figure)
    assert ticks(figure.axes[0].yaxis) == names[:20]
    assert "Source" in words(
        report_plots.sample_sheet(images, labels, names[:20], MODALITY, title="Source")
    )


def test_a_large_image_is_reduced_to_the_mean_of_its_pixels():
    image = np.random.default_rng(1).integers(0, 256, (3, 120, 120), np.uint8)
    figure = report_plots.sample_sheet(image[None], np.array([0]), ["a"], MODALITY, per_class=1)
    sheet = figure.axes[0].images[0].get_array()
    assert sheet.shape == (40, 40, 4)
    blocks = [[image[:, y : y + 3, x : x + 3] for x in (0, 117)] for y in (0, 117)]
    for y, row in zip((0, 39), blocks, strict=True):
        for x, block in zip((0, 39), row, strict=True):
            assert np.abs(sheet[y, x, :3] - block.reshape(3, -1).mean(1)).max() <= 0.5


def test_a_preview_shows_originals_first_and_their_copies_beside_them():
    draw = np.random.default_rng(2)
    original = draw.integers(0, 256, (2, 1, 4, 4), np.uint8)
    augmented = draw.integers(0, 256, (2, 3, 1, 4, 4), np.uint8)
    sheet = (
        report_plots.augmentation_preview(original, augmented, MODALITY)
        .axes[0]
        .images[0]
        .get_array()
    )
    for r in range(2):
        assert (sheet[r * 6 : r * 6 + 4, :4, 0] == original[r, 0]).all()
        for c in range(3):
            left = 6 * (c + 1) + 2
            assert (sheet[r * 6 : r * 6 + 4, left : left + 4, 0] == augmented[r, c, 0]).all()


def test_curves_of_a_method_share_a_colour_and_scratch_is_grey():
    figure = report_plots.learning_curves(curves())
    source, target = figure.axes
    solid = [line for line in target.lines if len(line.get_xdata())]
    assert [line.get_ydata()[-1] for line in solid] == [2.0, 3.0, 4.0]
    scratch, *l2_sp = [line.get_color() for line in solid]
    assert scratch == plot_style.GREY
    assert l2_sp[0] == l2_sp[1] != scratch
    looks = [line for line in source.lines if line.get_linestyle() == "--"]
    assert list(looks[0].get_ydata()) == [1.4, 1.1]
    assert [t.get_text() for t in target.get_legend().get_texts()] == ["scratch", "l2_sp"]


def test_the_pretraining_of_each_source_is_drawn_in_the_panel_of_the_source():
    pretraining, *arms = curves()
    pretrainings = [
        {**pretraining, "name": f"pretrain {name}"} for name in ("oaks", "elms", "oaks and elms")
    ]
    source, target = report_plots.learning_curves([*pretrainings, *arms]).axes
    labels = [t.get_text() for t in source.get_legend().get_texts()]
    assert labels == [*(curve["name"] for curve in pretrainings), "validation"]
    assert len([line for line in source.lines if line.get_linestyle() == "--"]) >= 3
    assert [t.get_text() for t in target.get_legend().get_texts()] == ["scratch", "l2_sp"]


def test_arms_of_a_method_on_several_sources_are_rows_of_their_own(result):
    rows = [
        arm.model_copy(update={"group": f"{arm.method}/{source}"})
        for arm in result.arms[-2:]
        for source in ("oaks", "elms")
    ]
    axes = report_plots.arms(result.model_copy(update={"arms": rows})).axes[0]
    assert ticks(axes.yaxis) == ["chosen model", *(f"{a.group} / {a.seed}" for a in rows)]


def test_an_arm_without_validation_is_drawn_on_the_test_split_only(result):
    nothing = {"validation": None, "validation_low": None, "validation_high": None}
    blind = result.model_copy(
        update={"arms": [arm.model_copy(update=nothing) for arm in result.arms]}
    )
    axes = report_plots.arms(blind).axes[0]
    bars = [c for c in axes.collections if hasattr(c, "get_segments")]
    drawn = {tuple(round(float(x), 9) for x in bar.get_segments()[0][:, 0]) for bar in bars}
    tested = {(arm.test_low, arm.test_high) for arm in result.arms}
    assert drawn == tested | {(result.chosen.low, result.chosen.high)}


def test_curves_without_a_pretraining_are_one_panel():
    assert len(report_plots.learning_curves(curves()[1:]).axes) == 1


def test_arms_are_drawn_at_their_figures(result):
    axes = report_plots.arms(result).axes[0]
    bars = [c for c in axes.collections if hasattr(c, "get_segments")]
    drawn = {tuple(round(float(x), 9) for x in bar.get_segments()[0][:, 0]) for bar in bars}
    hues = {}
    for line in axes.lines:
        if len(line.get_xdata()) == 1:
            hues[round(float(line.get_xdata()[0]), 9)] = line.get_color()
    for arm in result.arms:
        assert (arm.validation_low, arm.validation_high) in drawn
        assert (arm.test_low, arm.test_high) in drawn
        hue = (
            plot_style.BLUE if arm.weight else plot_style.GREY if arm.method == "scratch" else None
        )
        assert hue in (None, hues[arm.test])
        assert {arm.test, arm.validation} <= set(hues)
    assert (result.chosen.low, result.chosen.high) in drawn
    assert ticks(axes.yaxis)[:2] == ["chosen model", "scratch / 0"]


@pytest.mark.parametrize("k", [2, 10, 25, 26, 81])
def test_a_confusion_shows_each_count_once_and_no_text_beyond_25_classes(result, k):
    shown = of_classes(result, [f"c{i}" for i in range(k)])
    counts = np.array(shown.confusion)
    axes = report_plots.confusion(shown).axes[0]
    rgba = axes.images[0].get_array()
    assert rgba.shape == (k, k, 4)
    assert ((rgba[..., 3] > 0) == (counts > 0)).all()
    assert {to_hex(rgba[i, i, :3]) for i in range(k)} == {plot_style.BLUE}
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): t for t in axes.texts}
    if k > 25:
        assert not written and not ticks(axes.xaxis) and not ticks(axes.yaxis)
        return
    assert {at: int(t.get_text()) for at, t in written.items()} == {
        (int(r), int(c)): counts[r, c] for r, c in np.argwhere(counts)
    }
    assert ticks(axes.xaxis) == ticks(axes.yaxis) == [f"c{i}" for i in range(k)]


def test_an_empty_class_has_an_empty_row(result):
    empty = of_classes(result, ["a", "b"]).model_copy(update={"confusion": [[0, 0], [1, 3]]})
    rgba = report_plots.confusion(empty).axes[0].images[0].get_array()
    assert not rgba[0, :, 3].any() and rgba[1, 1, 3] > rgba[1, 0, 3] > 0


def test_reliability_is_drawn_at_its_bins(result):
    axes = report_plots.reliability(result).axes[0]
    points = next(line for line in axes.lines if line.get_marker() == "o")
    expected = [(b.confidence, b.accuracy) for b in result.reliability]
    assert list(zip(points.get_xdata(), points.get_ydata(), strict=True)) == expected


def test_the_worst_classes_come_first(result):
    shown = of_classes(result, [f"c{i}" for i in range(81)])
    figure = report_plots.class_recall(shown)
    worst = sorted(shown.classes, key=lambda c: c.recall)[:25]
    assert ticks(figure.axes[0].yaxis) == [c.name for c in worst]
    assert "Recall and precision by class (worst 25 of 81)" in words(figure)


NASTY = [
    "<script>alert(1)</script>",
    "$\\frac{$",
    "a\nb\x1b[1m",
    "--><b>",
    "猫",
    "𓀀",
    "",
    "x" * 300,
]


def test_any_class_name_can_be_drawn(result):
    shown = of_classes(result, NASTY)
    images = np.zeros((8, 1, 4, 4), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of characters without a glyph
        figures = [
            report_plots.confusion(shown),
            report_plots.class_recall(shown),
            report_plots.sample_sheet(images, np.arange(8), NASTY, MODALITY, title=" ".join(NASTY)),
        ]
        drawn = [plot_style.svg(figure).decode() for figure in figures]
    for text in drawn:
        ElementTree.fromstring(text)
        assert "script" not in text and "<!--" not in text
    labels = ticks(figures[0].axes[0].yaxis)
    assert labels[1:4] == ["$\\frac{$", "a?b?[1m", "--><b>"]
    assert labels[4] in ("猫", "#5") and labels[5] in ("𓀀", "#6")
    assert len(labels[7]) == 22


def test_an_svg_is_deterministic_and_does_not_change_matplotlib(result):
    before = dict(matplotlib.rcParams)
    assert plot_style.svg(report_plots.arms(result)) == plot_style.svg(report_plots.arms(result))
    assert plot_style.png(report_plots.reliability(result)) == plot_style.png(
        report_plots.reliability(result)
    )
    assert dict(matplotlib.rcParams) == before


def test_svgs_share_a_page_without_sharing_identifiers(result):
    drawn = {
        n: plot_style.svg(f).decode() for n, f in report_plots.of_result(result, curves()).items()
    }
    assert len(drawn) == 5
    identifiers = set()
    for text in drawn.values():
        own = re.findall(r'\bid="([^"]+)"', text)
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', text)
        assert used and set(used) <= set(own)
        assert len(own) == len(set(own)) and not identifiers & set(own)
        identifiers |= set(own)
        assert text.startswith("<svg") and f"var(--ink, {plot_style.INK})" in text


def test_without_curves_there_is_no_plot_of_them(result):
    assert "learning_curves" not in report_plots.of_result(result, [])


def test_a_png_is_drawn_on_white(result):
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(plot_style.png(report_plots.reliability(result), dpi=40)))
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
