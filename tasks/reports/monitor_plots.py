"""The plots of the monitoring report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.reports.plot_style import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    figure_of,
    label,
    legend,
    name_ticks,
    percent_ticks,
    strip_axes,
    svg,
)
from transfer.deployment.monitoring.new_data import NewItems, Observed
from transfer.deployment.monitoring.reference import Reference
from transfer.deployment.monitoring.report import ClassShare, Monitored
from transfer.modalities.interface import Unreadable
from transfer.transferability import domain_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.floating]
BINS = 20
MOST_CLASSES = 25
ACROSS = 6  # items per row
DRAWN = 12


def draw(
    report: Monitored, reference: Reference, new: Observed, source: NewItems
) -> dict[str, bytes]:
    """SVG of every plot by its name; no plot if no new item could be read."""
    if not report.items:
        return {}
    figures = {
        "map": scatter(
            reference.outputs.features, new.outputs.features, _unusual_rows(report, new)
        ),
        "summary": summary(reference, new, source.modality.summary_names),
        "classes": classes(report.classes),
        "unusual": sheet(
            [item.id for item in report.unusual], source, "The most unusual, in order"
        ),
        "drawn": sheet(_random_ids(new), source, "Some new items"),
    }
    return {name: svg(figure) for name, figure in figures.items()}


def _unusual_rows(report: Monitored, new: Observed) -> list[int]:
    row_of = {id_: row for row, id_ in enumerate(new.ids)}
    return [row_of[item.id] for item in report.unusual]


def _random_ids(new: Observed) -> list[str]:
    rows = np.random.default_rng(0).permutation(len(new.ids))[:DRAWN]
    return [new.ids[row] for row in np.sort(rows)]


def scatter(reference: Numbers, new: Numbers, unusual: list[int]) -> "Figure":
    """Features (M, D) and (N, D) on the first two principal components of both together."""
    both = domain_distance.standardised(np.concatenate([reference, new]).astype(np.float64))
    left, lengths, _ = np.linalg.svd(both, full_matrices=False)
    positions = np.zeros((len(both), 2))
    components = min(2, left.shape[1])
    positions[:, :components] = (left * lengths)[:, :components]
    reference_xy, new_xy = positions[: len(reference)], positions[len(reference) :]
    figure = figure_of(5.0, 4.6, "Features of the model")
    axes = strip_axes(figure.add_subplot())
    size = 18 if len(both) < 1000 else 9
    axes.scatter(
        reference_xy[:, 0],
        reference_xy[:, 1],
        s=size,
        color=GREY,
        alpha=0.55,
        lw=0,
        label="reference",
    )
    axes.scatter(new_xy[:, 0], new_xy[:, 1], s=size, color=BLUE, alpha=0.8, lw=0, label="new")
    far = new_xy[unusual]
    rings: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILLION}
    axes.scatter(far[:, 0], far[:, 1], s=46, label="most unusual", **rings)
    label(axes, "first principal component", "second")
    legend(axes, above=True)
    return figure


def summary(reference: Reference, new_items: Observed, names: Sequence[str]) -> "Figure":
    """Histograms of the S numbers of the modality's summary, and of the confidence."""
    figure = figure_of(10.4, 2.4, "Summary and confidence")
    names = (*names, "probability of the predicted class")
    old, new = (
        np.column_stack([observed.summary, observed.probabilities.max(1)])
        for observed in (reference.outputs, new_items.outputs)
    )
    for column, name in enumerate(names):
        axes = strip_axes(figure.add_subplot(1, len(names), column + 1))
        _histograms(axes, old[:, column], new[:, column])
        axes.locator_params(axis="x", nbins=5)
        label(axes, name, "share of items" if not column else "")
        if not column:
            legend(axes, above=True)
    return figure


def _histograms(axes: "Axes", reference: Numbers, new: Numbers) -> None:
    both = np.concatenate([reference, new])
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for values, hue, name in ((reference, GREY, "reference"), (new, BLUE, "new")):
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, fill=True, color=hue, alpha=0.25)
        axes.stairs(share, edges, color=hue, lw=1.4, label=name)
    percent_ticks(axes, "y")
    axes.set_ylim(bottom=0)


def classes(class_shares: list[ClassShare]) -> "Figure":
    """Share of predictions of each class; of many classes, those whose share differs most."""
    order = sorted(
        range(len(class_shares)),
        key=lambda k: -abs(class_shares[k].new - class_shares[k].reference),
    )
    drawn = [class_shares[k] for k in sorted(order[:MOST_CLASSES])]
    title = "Predicted classes"
    if len(drawn) < len(class_shares):
        title += f" ({len(drawn)} of {len(class_shares)} that differ most)"
    figure = figure_of(5.0, 1.0 + 0.3 * len(drawn), title)
    axes = strip_axes(figure.add_subplot())
    rows = np.arange(len(drawn))
    axes.barh(
        rows - 0.19, [share.reference for share in drawn], 0.34, color=GREY, label="reference"
    )
    axes.barh(rows + 0.19, [share.new for share in drawn], 0.34, color=BLUE, label="new")
    name_ticks(axes, "y", [share.name for share in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    percent_ticks(axes, "x")
    label(axes, "share of items", "")
    legend(axes, above=True)
    return figure


def sheet(ids: list[str], source: NewItems, title: str) -> "Figure":
    """New items as the model's inputs, numbered from the upper left."""
    entries = {entry.id: entry for entry in source.listing.entries}
    records = []
    for id_ in ids:
        try:
            records.append(source.record(entries[id_]))
        except Unreadable:  # removed since it was read
            continue
    rows = [records[start : start + ACROSS] for start in range(0, len(records), ACROSS)]
    figure = figure_of(5.0, 0.5 + 0.82 * max(len(rows), 1), title)
    axes = strip_axes(figure.add_subplot(anchor="NW"))
    source.modality.show(axes, rows or [[]], ACROSS)
    axes.set(xticks=[], yticks=range(len(rows)))
    axes.set_yticklabels([str(row * ACROSS + 1) for row in range(len(rows))], color=INK)
    return figure
