"""The plots of a report; each function returns a `matplotlib.figure.Figure`.

`tasks.reports.plot_style.svg` and `tasks.reports.plot_style.png` turn one into bytes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from tasks.reports.plot_style import (
    BLUE,
    GREY,
    GRID,
    HUES,
    INK,
    MUTED,
    SURFACE,
    VERMILLION,
    figure_of,
    label,
    legend,
    name_ticks,
    percent_ticks,
    strip_axes,
)
from transfer.evaluation.report_schema import ArmResult, Evaluation
from transfer.modalities.interface import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = NDArray[Any]

CHOSEN = BLUE, "D"  # colour and marker
MAX_ROWS = 20  # classes of a sample sheet
MAX_NAMED = 25  # classes whose names and counts fit in a confusion matrix


class Curve(TypedDict):
    """Curves of one training run. ``name`` is ``pretrain`` or ``method/seed``."""

    name: str
    step: Sequence[int]
    loss: Sequence[float]
    """Mean training loss at each of ``step``."""
    validation_step: Sequence[int]
    validation: Sequence[float]
    """Mean validation loss at each of ``validation_step``; both may be empty."""


def sample_sheet(
    records: Records,
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    modality: Modality,
    per_class: int = 8,
    title: str = "Samples",
) -> "Figure":
    """Show the first items of each class, one row per class, for at most 20 classes.

    Args:
        records: (N, ...) as stored.
        labels: (N,) indices into ``class_names``.
        class_names: a name for every class.
        modality: of the records.
        per_class: items per row.
        title: title of the figure; a note is added if classes are left out.
    """
    rows = min(len(class_names), MAX_ROWS)
    if rows < len(class_names):
        title += f" (first {rows} of {len(class_names)} classes)"
    cells = [[records[i] for i in np.flatnonzero(labels == k)[:per_class]] for k in range(rows)]
    figure = figure_of(5.0, 0.5 + 0.44 * rows, title)
    axes = strip_axes(figure.add_subplot(anchor="NW"))
    modality.show(axes, cells, per_class)
    name_ticks(axes, "y", class_names[:rows])
    axes.set_xticks([])
    return figure


def augmentation_preview(original: Records, augmented: Records, modality: Modality) -> "Figure":
    """Show items and augmented copies of them, one row per item.

    Args:
        original: (N, ...) as stored.
        augmented: (N, copies, ...) as stored.
        modality: of the records.
    """
    cells = [[first, *copies] for first, copies in zip(original, augmented, strict=True)]
    columns = 1 + augmented.shape[1]
    figure = figure_of(5.0, 0.75 + 0.48 * len(cells), "Augmentation")
    axes = strip_axes(figure.add_subplot(anchor="NW"))
    modality.show(axes, cells, columns, lead=True)
    axes.set_xticks([0, columns / 2 + 0.5], ["original", "augmented copies"])
    axes.xaxis.tick_top()
    axes.set_yticks([])
    return figure


def learning_curves(histories: Sequence[Curve]) -> "Figure":
    """Training and validation loss of every run: the source left, the target's methods right."""
    panels: dict[str, list[Curve]] = {}
    for run in histories:
        data = "source" if run["name"].partition(" ")[0] == "pretrain" else "target"
        panels.setdefault(data, []).append(run)
    figure = figure_of(10.4 if len(panels) > 1 else 5.6, 3.5, "Learning curves")
    hues = _hues(histories)
    for number, data in enumerate(sorted(panels), 1):
        axes = strip_axes(figure.add_subplot(1, len(panels), number))
        for run in panels[data]:
            _curve(axes, run, hues[_method(run)])
        for method in dict.fromkeys(map(_method, panels[data])):
            axes.plot([], [], color=hues[method], label=method, lw=2)
        if any(len(run["validation"]) for run in panels[data]):
            axes.plot([], [], color=MUTED, label="validation", lw=1.2, ls="--")
        label(axes, f"step on the {data}", "loss" if number == 1 else "")
        legend(axes)
    return figure


def _method(run: Curve) -> str:
    return run["name"].split("/")[0]


def _hues(histories: Sequence[Curve]) -> dict[str, str]:
    methods = [m for m in dict.fromkeys(map(_method, histories)) if m != "scratch"]
    return {"scratch": GREY} | {m: HUES[i % len(HUES)] for i, m in enumerate(methods)}


def _curve(axes: "Axes", run: Curve, hue: str) -> None:
    axes.plot(run["step"], run["loss"], color=hue, lw=1.1, alpha=0.85)
    axes.plot(run["validation_step"], run["validation"], color=hue, lw=1.1, ls="--")


def arms(result: Evaluation) -> "Figure":
    """Accuracy of every arm with its interval: hollow on validation, filled on the test split.

    Members of the chosen model are blue, training from scratch is grey; the dashed line and band
    are the ensemble of the scratch arms, the top row is the chosen model.
    """
    figure = figure_of(10.4, 1.2 + 0.28 * (len(result.arms) + 1), "Arms")
    axes = strip_axes(figure.add_subplot())
    axes.axvspan(result.scratch.low, result.scratch.high, color=GREY, alpha=0.14, lw=0)
    axes.axvline(
        result.scratch.accuracy,
        color=GREY,
        lw=1,
        ls="--",
        label=f"{result.scratch.method} ensemble, test",
    )
    chosen = result.chosen
    _interval(axes, 0, (chosen.low, chosen.accuracy, chosen.high), CHOSEN, filled=True)
    for row, arm in enumerate(result.arms, 1):
        if arm.validation is not None:
            low, high = arm.validation_low or 0.0, arm.validation_high or 0.0
            _interval(axes, row - 0.15, (low, arm.validation, high), _look(arm), filled=False)
        _interval(
            axes, row + 0.15, (arm.test_low, arm.test, arm.test_high), _look(arm), filled=True
        )
    if any(arm.validation is not None for arm in result.arms):
        axes.plot([], [], "o", color=MUTED, mfc=SURFACE, ms=4.5, label="validation")
    axes.plot([], [], "o", color=MUTED, ms=4.5, label="test")
    name_ticks(axes, "y", ["chosen model", *(f"{a.group} / {a.seed}" for a in result.arms)])
    axes.set_ylim(len(result.arms) + 0.6, -0.6)
    axes.grid(axis="y", visible=False)
    percent_ticks(axes, "x")
    label(axes, "accuracy", "")
    legend(axes, above=True)
    return figure


def _look(arm: ArmResult) -> tuple[str, str]:
    if arm.weight > 0:
        return CHOSEN
    return (MUTED, "o") if arm.uses_source else (GREY, "s")


def _interval(
    axes: "Axes",
    row: float,
    bounds: tuple[float, float, float],
    look: tuple[str, str],
    *,
    filled: bool,
) -> None:
    low, point, high = bounds
    hue, mark = look
    axes.hlines(row, low, high, color=hue, lw=1.4, alpha=0.9 if filled else 0.55)
    axes.plot(point, row, mark, color=hue, mfc=hue if filled else SURFACE, ms=4.5)


def confusion(result: Evaluation) -> "Figure":
    """Confusion matrix of the test split: rows true classes, columns predicted ones.

    The stronger the colour, the larger the share of the row: blue is right, orange wrong. Counts
    and names are written for 25 classes or fewer.
    """
    counts = np.asarray(result.confusion)
    figure = figure_of(5.0, 5.2, "Confusion matrix")
    axes = strip_axes(figure.add_subplot(anchor="NW"))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    strength = np.where(counts > 0, 0.15 + 0.85 * np.sqrt(share), 0.0)
    axes.imshow(_tinted(strength), interpolation="none")
    axes.set(xticks=[], yticks=[])
    label(axes, "predicted", "true")
    if len(counts) <= MAX_NAMED:
        size = 8.5 if len(counts) <= 12 else 6.0
        written: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size}
        names = [c.name for c in result.classes]
        name_ticks(axes, "y", names)
        name_ticks(axes, "x", names, slanted=max(map(len, names)) > 3)
        for row, column in np.argwhere(counts):
            ink = "white" if strength[row, column] > 0.75 else INK
            axes.text(column, row, f"{counts[row, column]}", color=ink, **written)
    else:
        label(axes, "predicted, in the order of the class table", "true, in the same order")
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    return figure


def _tinted(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGBA (K, K, 4) of strengths in 0..1 as opacity, so that any background shows through."""
    from matplotlib.colors import to_rgb

    right = np.eye(len(strength), dtype=bool)[..., None]
    colours = np.where(right, to_rgb(BLUE), to_rgb(VERMILLION))
    return np.dstack([colours, strength])


def reliability(result: Evaluation) -> "Figure":
    """Accuracy against confidence in bins of equal mass; a calibrated model is on the diagonal."""
    figure = figure_of(5.0, 5.2, "Reliability")
    axes = strip_axes(figure.add_subplot(anchor="NW"))
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="calibrated")
    confidence = [b.confidence for b in result.reliability]
    accuracy = [b.accuracy for b in result.reliability]
    axes.vlines(confidence, confidence, accuracy, color=VERMILLION, lw=1.2, label="gap")
    axes.plot(confidence, accuracy, "o", color=BLUE, ms=5.5, mec=SURFACE, mew=0.6, label="bin")
    low = min([0.9, *confidence, *accuracy]) - 0.03
    axes.set(xlim=(low, 1.02), ylim=(low, 1.02), aspect="equal")
    percent_ticks(axes, "x", "y")
    label(axes, "mean confidence", "accuracy")
    legend(axes)
    return figure


def class_recall(result: Evaluation) -> "Figure":
    """Recall (filled) and precision (hollow) of the 25 classes of worst recall, worst first."""
    order = sorted(enumerate(result.classes, 1), key=lambda item: item[1].recall)[:MAX_NAMED]
    classes = [c for _, c in order]
    title = "Recall and precision by class"
    if len(classes) < len(result.classes):
        title += f" (worst {len(classes)} of {len(result.classes)})"
    figure = figure_of(5.0, 1.1 + 0.28 * len(classes), title)
    axes = strip_axes(figure.add_subplot())
    rows = np.arange(len(classes))
    recall, precision = [c.recall for c in classes], [c.precision for c in classes]
    axes.hlines(rows, recall, precision, color=GRID, lw=2.5)
    axes.plot(precision, rows, "o", color=GREY, mfc=SURFACE, ms=5.5, label="precision")
    axes.plot(recall, rows, "o", color=BLUE, ms=5.5, label="recall")
    name_ticks(axes, "y", [c.name for c in classes], numbers=[number for number, _ in order])
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(min([0.9, *recall, *precision]) - 0.02, 1.01)
    axes.grid(axis="y", visible=False)
    percent_ticks(axes, "x")
    legend(axes, above=True)
    return figure


def of_result(result: Evaluation, histories: Sequence[Curve]) -> dict[str, "Figure"]:
    """Draw every plot that needs no item of data, by the names that `tasks.reports.report` uses."""
    drawn = {
        "arms": arms(result),
        "confusion": confusion(result),
        "reliability": reliability(result),
        "class_recall": class_recall(result),
    }
    return drawn | ({"learning_curves": learning_curves(histories)} if histories else {})
