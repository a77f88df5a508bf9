"""A model without torch: the same decisions in another format, measured before it is exported.

Shapes: N items, K classes.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from transfer.core.config import Section
from transfer.core.errors import DataRefusedError, ExportRefusedError
from transfer.data.items import PoolItems, TestItems
from transfer.data.storage.tensor_store import Records
from transfer.deployment.export import latency, onnx_file, packages, tflite
from transfer.deployment.export.contract import contract
from transfer.deployment.export.inference_graph import Whole
from transfer.deployment.export.latency import Latency
from transfer.deployment.export.onnx_file import Answer
from transfer.deployment.export.parity import Parity, parity
from transfer.evaluation import comparison
from transfer.evaluation.tables import EvaluateSettings
from transfer.models import predictor
from transfer.models.predictor import Predictor

Format = Literal["onnx", "onnx-int8", "tflite"]
FILES: dict[str, str] = {
    "onnx": "model.onnx",
    "onnx-int8": "model.int8.onnx",
    "tflite": "model.tflite",
}
"""File name of each format."""
AT_ONCE = 128  # test items


class ExportSettings(Section):
    """How exports are made and when one is refused."""

    margin: float = Field(0.01, ge=0, le=1)
    """Tolerated loss of accuracy: an export whose paired interval reaches below it is refused,
    unless all of its answers equal the model's up to rounding."""
    calibration: int = Field(256, ge=8)
    """Largest number of items of the training split that the ranges of an 8-bit export come
    from."""
    tflite_python: Path = Path(".venv-tflite/bin/python")
    """Python of the environment that converts to TFLite; relative to the project, or absolute."""


class Engine(Section):
    """A way to run the model."""

    name: str
    bytes: int
    """Size of its file."""
    latencies: tuple[Latency, ...]


class Report(Section):
    """An export, and its comparison with the model it was made from."""

    schema_version: Literal[1] = 1
    model: str
    """Registered name."""
    version: int
    format: Format
    file: str
    sha256: str
    """Digest of the file."""
    class_names: tuple[str, ...]
    networks: int
    """Number of networks in the graph."""
    calibrated_on: int
    """Training items that the ranges come from; 0 without quantisation."""
    parity: Parity
    engines: tuple[Engine, ...]
    machine: str
    """The processor that the latencies were measured on."""
    versions: dict[str, str]
    """Versions of the packages that made it."""


def export(
    folder: Path,
    out: Path,
    *,
    format: Format,
    name: str,
    version: int,
    pool: PoolItems,
    test: TestItems,
    settings: ExportSettings,
    evaluate: EvaluateSettings,
) -> Report:
    """Write a model in another format into an existing folder, and measure it on the test split.

    Args:
        folder: the model's: card and weights.
        out: the folder for the file and ``report.json``.
        format: one of `FILES`.
        name: registered name of the model.
        version: of the model.
        pool: items of the training split, for the ranges of 8-bit numbers.
        test: items to compare on.
        settings: of the export.
        evaluate: of the interval.

    Raises:
        ModelFileError: the model cannot be read.
        SettingsError: a package that the format needs is not installed.
        DataRefusedError: there is no item to calibrate on, or no test item.
    """
    if not len(test.labels) or not len(pool):
        raise DataRefusedError(
            f"found {len(test.labels)} test items and {len(pool)} training items; expected one "
            "of each or more: the export is measured on the former and calibrated on the latter"
        )
    model, some = predictor.load(folder), spaced(pool.records, settings.calibration)
    metadata = contract(model.card, version) | {"format": format}
    records = test.records[:].numpy()
    with TemporaryDirectory() as scratch:
        work = _Work(model, folder, Path(scratch), some, records, metadata, settings)
        result = _MAKERS[format](work, out / FILES[format])
    expected = model.predict_records(records)
    report = Report(
        model=name,
        version=version,
        format=format,
        file=FILES[format],
        sha256=hashlib.sha256((out / FILES[format]).read_bytes()).hexdigest(),
        class_names=model.class_names,
        networks=sum(len(networks) for networks in model.networks),
        calibrated_on=result.calibrated_on,
        parity=parity(expected, result.answers, test.labels.numpy(), evaluate),
        engines=result.engines,
        machine=machine(),
        versions=result.versions,
    )
    (out / "report.json").write_text(report.model_dump_json(indent=1))
    return report


def load(folder: Path) -> Report:
    """Read what `export` reported."""
    return Report.model_validate_json((folder / "report.json").read_text())


def judge(report: Report, margin: float) -> None:
    """Accept an export that is the same model, or is shown to lose less than a margin.

    Raises:
        ExportRefusedError: it is not.
    """
    if report.parity.holds(margin):
        return
    raise ExportRefusedError(
        f"{report.file} of {report.model} version {report.version} is refused: {sentence(report)} "
        f"Expected an interval from {-100 * margin:.1f} points up, or the same answers to "
        "rounding. More items to calibrate on (export.calibration) or more test items can help; "
        "where such a loss does not matter, raise export.margin"
    )


def sentence(report: Report) -> str:
    """How near the export is to the model, in two sentences."""
    measured = report.parity
    return (
        f"{report.format} has {100 * measured.accuracy:.1f} % of {measured.items} test items "
        f"right, the model {100 * measured.model_accuracy:.1f} %: "
        f"{comparison.points(measured.gain)}. Both give the same class to "
        f"{100 * measured.agreement:.2f} %; probabilities differ by {measured.mean:.1e} on "
        f"average, {measured.largest:.1e} at most."
    )


def table(report: Report) -> str:
    """Markdown: size and latency of the model in torch and of its files."""
    first = report.engines[0].latencies
    heads = [f"{t.batch} at once, {t.threads} thread{'s' * (t.threads > 1)}" for t in first]
    rows = [f"| | MB | {' | '.join(f'{head}, ms' for head in heads)} |"]
    rows += ["|---" * (len(heads) + 2) + "|"]
    for engine in report.engines:
        times = " | ".join(f"{timing.milliseconds:.2f}" for timing in engine.latencies)
        rows.append(f"| {engine.name} | {engine.bytes / 1e6:.2f} | {times} |")
    return "\n".join(rows)


def page(report: Report) -> str:
    """Markdown: the export's summary, its table and the machine of the measurement."""
    made = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"{report.file} is version {report.version} of {report.model}: {report.networks} networks "
        f"in one graph.\n\n{sentence(report)}\n\n{table(report)}\n\n{report.machine}; {made}\n"
    )


def spaced(records: Records, most: int) -> NDArray[Any]:
    """At most ``most`` records, evenly spaced, because items are in the order of their classes."""
    rows = np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(int)
    chosen: NDArray[Any] = records[torch.from_numpy(rows)].numpy()
    return chosen


def machine() -> str:
    """Name of the processor, as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


@dataclass(frozen=True)
class _Work:
    """The inputs of a conversion."""

    model: Predictor
    folder: Path
    scratch: Path
    examples: NDArray[Any]  # of the training split
    records: NDArray[Any]  # of the test split
    metadata: Mapping[str, str]
    settings: ExportSettings

    def torch(self, threads: int) -> Answer:
        """The model's own answers."""

        def answer(records: NDArray[Any]) -> NDArray[np.float32]:
            with latency.torch_threads(threads):
                return self.model.predict_records(records)

        return answer

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


@dataclass(frozen=True)
class _Made:
    """A file's answers on the test split (N, K), and its measurements."""

    answers: NDArray[np.float32]
    engines: tuple[Engine, ...]
    versions: dict[str, str]
    calibrated_on: int = 0


def _onnx(work: _Work, file: Path) -> _Made:
    onnx_file.write(Whole(work.model), work.examples[:2], file, work.metadata)
    answers = _answers(onnx_file.ask(file), work.records)
    return _Made(answers, _engines(work, {"onnx": file}), packages.versions())


def _int8(work: _Work, file: Path) -> _Made:
    exact, used = work.scratch / FILES["onnx"], len(work.examples)
    onnx_file.write(Whole(work.model), work.examples[:2], exact, work.metadata)
    onnx_file.quantise(exact, file, work.examples, {**work.metadata, "calibrated_on": str(used)})
    answers = _answers(onnx_file.ask(file), work.records)
    engines = _engines(work, {"onnx": exact, "onnx-int8": file})
    return _Made(answers, engines, packages.versions(), used)


def _tflite(work: _Work, file: Path) -> _Made:
    python, whole = work.settings.tflite_python, Whole(work.model)
    written = tflite.write(
        python, whole, file, work.metadata, work.records, latency.thread_counts()
    )
    here = latency.measure({"torch": work.torch}, work.records)["torch"]
    engines = (
        Engine(name="torch", bytes=work.weights.stat().st_size, latencies=tuple(here)),
        Engine(name="tflite", bytes=file.stat().st_size, latencies=written.latencies),
    )
    return _Made(written.answers, engines, written.versions)


_MAKERS: dict[str, Callable[[_Work, Path], _Made]] = {
    "onnx": _onnx,
    "onnx-int8": _int8,
    "tflite": _tflite,
}


def _answers(answer: Answer, records: NDArray[Any]) -> NDArray[np.float32]:
    starts: Sequence[int] = range(0, len(records), AT_ONCE)
    return np.concatenate([answer(records[i : i + AT_ONCE]) for i in starts])


def _engines(work: _Work, files: Mapping[str, Path]) -> tuple[Engine, ...]:
    def asking(file: Path) -> Callable[[int], Answer]:
        return lambda threads: onnx_file.ask(file, threads)

    engines = {"torch": work.torch, **{name: asking(file) for name, file in files.items()}}
    latencies = latency.measure(engines, work.records)
    sizes = {"torch": work.weights, **files}
    return tuple(
        Engine(name=name, bytes=file.stat().st_size, latencies=tuple(latencies[name]))
        for name, file in sizes.items()
    )
