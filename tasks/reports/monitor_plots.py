"""The pictures of the page about new data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.reports.plot_style import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    bare,
    figure_of,
    label,
    legend,
    name_ticks,
    shares,
    svg,
)
from transfer.deployment.monitoring.new_data import Fresh, NewItems
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
ACROSS = 6  # items a row
DRAWN = 12


def draw(
    found: Monitored, reference: Reference, fresh: Fresh, source: NewItems
) -> dict[str, bytes]:
    """SVG of every picture by its name; none where no new item could be read."""
    if not found.items:
        return {}
    figures = {
        "map": scatter(reference.seen.features, fresh.seen.features, _rows(found, fresh)),
        "summary": summary(reference, fresh, source.modality.summary_names),
        "classes": classes(found.classes),
        "unusual": sheet([one.id for one in found.unusual], source, "The most unusual, in order"),
        "drawn": sheet(_drawn(fresh), source, "Some new items"),
    }
    return {name: svg(figure) for name, figure in figures.items()}


def _rows(found: Monitored, fresh: Fresh) -> list[int]:
    place = {id_: row for row, id_ in enumerate(fresh.ids)}
    return [place[one.id] for one in found.unusual]


def _drawn(fresh: Fresh) -> list[str]:
    rows = np.random.default_rng(0).permutation(len(fresh.ids))[:DRAWN]
    return [fresh.ids[row] for row in np.sort(rows)]


def scatter(reference: Numbers, new: Numbers, unusual: list[int]) -> "Figure":
    """Features (M, D) and (N, D) on the two directions in which both together vary most."""
    both = domain_distance.standardised(np.concatenate([reference, new]).astype(np.float64))
    left, lengths, _ = np.linalg.svd(both, full_matrices=False)
    places = np.zeros((len(both), 2))
    kept = min(2, left.shape[1])
    places[:, :kept] = (left * lengths)[:, :kept]
    old, young = places[: len(reference)], places[len(reference) :]
    figure = figure_of(5.0, 4.6, "What the model sees")
    axes = bare(figure.add_subplot())
    size = 18 if len(both) < 1000 else 9
    axes.scatter(old[:, 0], old[:, 1], s=size, color=GREY, alpha=0.55, lw=0, label="reference")
    axes.scatter(young[:, 0], young[:, 1], s=size, color=BLUE, alpha=0.8, lw=0, label="new")
    far = young[unusual]
    rings: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILLION}
    axes.scatter(far[:, 0], far[:, 1], s=46, label="most unusual", **rings)
    label(axes, "first principal component", "second")
    legend(axes, above=True)
    return figure


def summary(reference: Reference, fresh: Fresh, names: Sequence[str]) -> "Figure":
    """Histograms of the S numbers of the modality's summary, and of the confidence."""
    figure = figure_of(10.4, 2.4, "Summary and confidence")
    names = (*names, "probability of the predicted class")
    old, new = (
        np.column_stack([seen.summary, seen.probabilities.max(1)])
        for seen in (reference.seen, fresh.seen)
    )
    for column, name in enumerate(names):
        axes = bare(figure.add_subplot(1, len(names), column + 1))
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
    shares(axes, "y")
    axes.set_ylim(bottom=0)


def classes(found: list[ClassShare]) -> "Figure":
    """How often each class is predicted; of many, those whose share differs most."""
    order = sorted(range(len(found)), key=lambda k: -abs(found[k].new - found[k].reference))
    kept = [found[k] for k in sorted(order[:MOST_CLASSES])]
    title = "Predicted classes"
    if len(kept) < len(found):
        title += f" ({len(kept)} of {len(found)} that differ most)"
    figure = figure_of(5.0, 1.0 + 0.3 * len(kept), title)
    axes = bare(figure.add_subplot())
    rows = np.arange(len(kept))
    axes.barh(rows - 0.19, [one.reference for one in kept], 0.34, color=GREY, label="reference")
    axes.barh(rows + 0.19, [one.new for one in kept], 0.34, color=BLUE, label="new")
    name_ticks(axes, "y", [one.name for one in kept])
    axes.set_ylim(len(kept) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    shares(axes, "x")
    label(axes, "share of items", "")
    legend(axes, above=True)
    return figure


def sheet(ids: list[str], source: NewItems, title: str) -> "Figure":
    """New items as the model takes them in, numbered from the upper left."""
    entries = {entry.id: entry for entry in source.listing.entries}
    records = []
    for id_ in ids:
        try:
            records.append(source.record(entries[id_]))
        except Unreadable:  # gone since it was looked at
            continue
    rows = [records[start : start + ACROSS] for start in range(0, len(records), ACROSS)]
    figure = figure_of(5.0, 0.5 + 0.82 * max(len(rows), 1), title)
    axes = bare(figure.add_subplot(anchor="NW"))
    source.modality.show(axes, rows or [[]], ACROSS)
    axes.set(xticks=[], yticks=range(len(rows)))
    axes.set_yticklabels([str(row * ACROSS + 1) for row in range(len(rows))], color=INK)
    return figure
