"""The reports of a run for people and for DVC: an HTML page, metrics and plot data."""

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.reports.report_plots import Curve
from tasks.reports.summary import markdown, terminal
from tasks.reports.templates import templates
from tasks.runtime import formatting
from transfer.evaluation.report_schema import Evaluation, Result

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["PLOT_NAMES", "markdown", "metrics", "plots", "render", "terminal"]

PLOT_NAMES = (
    "target_samples",
    "augmentation",
    "learning_curves",
    "arms",
    "confusion",
    "reliability",
    "class_recall",
)
"""Names of the plots that the page can show, besides `source_samples_1` and so on."""


def render(
    result: Result, images: Mapping[str, bytes], *, links: Mapping[str, str] | None = None
) -> str:
    """Render the report as one HTML page that loads no external resource.

    Args:
        result: the result of the run.
        images: PNG or SVG bytes of the plots by name; a missing plot leaves no gap.
        links: address by text, shown at the end, such as that of the validation report.

    Raises:
        ValueError: a name is not the name of a plot, or an image is neither PNG nor SVG.
    """
    samples = [name for name in images if re.fullmatch(r"source_samples_\d+", name)]
    samples.sort(key=lambda name: int(name.rpartition("_")[2]))
    if unknown := set(images) - {*PLOT_NAMES, *samples}:
        raise ValueError(f"found plots {sorted(unknown)}; expected some of {list(PLOT_NAMES)}")
    members = zip(result.chosen.members, result.chosen.weights, strict=True)
    tabled = tuple(f"{rule.rule}: " for rule in result.rules)
    return _template().render(
        r=result,
        samples=samples,
        plots={name: _image_element(name, content) for name, content in images.items()},
        links=links or {},
        gauge=_interval_positions(result),
        reasons=[reason for reason in result.reasons if not reason.startswith(tabled)],
        members=sorted(members, key=lambda member: -member[1]),
        longest=max([*result.seconds.steps.values(), 1e-9]),
    )


def _template() -> "Template":
    environment = templates()
    for name in ("percent", "points", "duration", "count", "listed", "outcome", "budget"):
        environment.filters[name] = getattr(formatting, name)
    return environment.get_template("report.html")


def _image_element(name: str, content: bytes) -> "Markup":
    from markupsafe import Markup

    if content.startswith(b"<svg"):
        return Markup(content.decode())
    if not content.startswith(b"\x89PNG"):
        raise ValueError(f"plot {name!r} starts with {content[:8]!r}; expected PNG or SVG")
    data = base64.b64encode(content).decode()
    return Markup('<img alt="" src="data:image/png;base64,{}">').format(data)


def _interval_positions(result: Result) -> list[dict[str, Any]]:
    """Position of each source's interval on a common axis that contains zero, in per cent of it."""
    gains = [source.gain for source in result.sources]
    low = min([0.0, *(g.low for g in gains)])
    high = max([0.0, *(g.high for g in gains)])
    margin = max(0.12 * (high - low), 0.002)
    span = high - low + 2 * margin

    def place(value: float) -> float:
        return round(100 * (value - low + margin) / span, 2)

    return [
        {
            "name": source.name,
            "verdict": source.verdict,
            "gain": source.gain,
            "zero": place(0.0),
            "left": place(source.gain.low),
            "width": round(place(source.gain.high) - place(source.gain.low), 2),
            "point": place(source.gain.point),
        }
        for source in result.sources
    ]


def metrics(result: Evaluation) -> dict[str, float | int | str]:
    """The figures that ``dvc metrics`` compares: no times, no version, six decimals."""
    chosen, gain = result.chosen, result.gain
    figures = {
        "accuracy": chosen.accuracy,
        "low": chosen.low,
        "high": chosen.high,
        "balanced_accuracy": chosen.balanced_accuracy,
        "macro_precision": chosen.macro_precision,
        "macro_recall": chosen.macro_recall,
        "macro_f1": chosen.macro_f1,
        "log_loss": chosen.log_loss,
        "brier": chosen.brier,
        "ece": chosen.ece,
        "scratch_accuracy": result.scratch.accuracy,
        "gain": gain.point,
        "gain_low": gain.low,
        "gain_high": gain.high,
    }
    figures |= _advice_metrics(result)
    rounded = {name: round(value, 6) for name, value in figures.items()}
    return {**rounded, "test_items": result.test_items, "verdict": result.verdict}


def _advice_metrics(result: Evaluation) -> dict[str, float]:
    """Predictions of the advisor, the measured gains, and their rank correlations."""
    values: dict[str, float | None] = {}
    for advice in result.foresight.advice:
        measures = advice.model_dump(exclude={"name", "relation"})
        values |= {f"advice.{advice.name}.{key}": value for key, value in measures.items()}
    values |= {f"gain.{source.name}": source.gain.point for source in result.sources}
    for subject in ("sources", "methods"):
        correlations = getattr(result.foresight, subject).model_dump()
        values |= {f"foresight.{subject}.{key}": value for key, value in correlations.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def plots(
    result: Evaluation,
    labels: Sequence[int] | NDArray[np.integer],
    predictions: Sequence[int] | NDArray[np.integer],
    histories: Sequence[Curve],
) -> dict[str, str]:
    """CSV text by file name, as ``dvc plots`` reads it.

    Args:
        result: arms, classes and reliability.
        labels: (N,) true classes of the test items.
        predictions: (N,) classes the chosen model predicts for them.
        histories: curves of every run.
    """
    names = [c.name for c in result.classes]
    pairs = zip(labels, predictions, strict=True)
    return {
        "arms.csv": _csv(
            ["arm", "validation", "test"],
            ([f"{a.group}/{a.seed}", a.validation, a.test] for a in result.arms),
        ),
        "confusion.csv": _csv(["actual", "predicted"], ([names[t], names[p]] for t, p in pairs)),
        "reliability.csv": _csv(
            ["confidence", "accuracy"], ([b.confidence, b.accuracy] for b in result.reliability)
        ),
        "curves.csv": _csv(
            ["arm", "step", "loss"],
            (
                [run["name"], step, loss]
                for run in histories
                for step, loss in zip(run["step"], run["loss"], strict=True)
            ),
        ),
    }


def _csv(head: list[str], rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(
        [round(float(v), 6) if isinstance(v, float) else v for v in row] for row in rows
    )
    return text.getvalue()
