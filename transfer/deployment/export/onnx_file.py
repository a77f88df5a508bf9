"""ONNX files: writing, quantising to 8 bits, predicting. Shapes: N records, K classes.

Quantisation is static and per output channel (Jacob et al., CVPR 2018; Krishnamoorthi, 2018): the
ranges of activations come from training items. Convolutions and what lies between them are
8-bit; classifiers, temperatures and the mixture stay unchanged, because they cost little time and
determine the calibration of probabilities.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer.deployment.export.contract import INPUT, OUTPUT
from transfer.deployment.export.inference_graph import Whole
from transfer.deployment.export.packages import package

Answer = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From records (N, ...) to probabilities (N, K)."""

OPSET = 20
QUANTISED = ("Conv", "Relu", "Clip", "Pad", "MaxPool", "Add")
BATCH = 32


def write(whole: Whole, example: NDArray[Any], file: Path, metadata: Mapping[str, str]) -> None:
    """Write a network for batches of any size.

    By torch's tracing exporter: the newer one gave the same graph and took 12 seconds instead of
    half a second for six small networks, 15 instead of 0.8 for an EfficientNet.

    Args:
        whole: the network.
        example: records (N, ...) to trace it with.
        file: the file to write.
        metadata: entries of its metadata.

    Raises:
        SettingsError: a package is not installed.
    """
    package("onnx")
    with _quiet():
        torch.onnx.export(
            whole,
            (torch.from_numpy(example),),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )
    describe(file, metadata)


def describe(file: Path, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a file.

    Raises:
        SettingsError: a package is not installed.
    """
    onnx = package("onnx")
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(file))


def quantise(exact: Path, file: Path, records: NDArray[Any], metadata: Mapping[str, str]) -> None:
    """Write an 8-bit version of a file.

    Args:
        exact: the file that `write` wrote.
        file: the file to write.
        records: (N, ...) of the training split, from which the ranges are taken.
        metadata: entries of its metadata.

    Raises:
        SettingsError: a package is not installed.
    """
    tool, shapes = package("onnxruntime.quantization"), "onnxruntime.quantization.shape_inference"
    with _quiet(), TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        package(shapes).quant_pre_process(str(exact), str(prepared))
        tool.quantize_static(
            str(prepared),
            str(file),
            _reader(tool.CalibrationDataReader, records),
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
        )
    describe(file, metadata)


def _reader(base: Any, records: NDArray[Any]) -> object:
    class Reader(base):
        def __init__(self) -> None:
            starts = range(0, len(records), BATCH)
            self.batches: Iterator[NDArray[Any]] = (records[i : i + BATCH] for i in starts)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()


def ask(file: Path, threads: int = 0) -> Answer:
    """A function that predicts with a file, on the CPU; 0 threads means one for each core.

    Raises:
        SettingsError: a package is not installed.
    """
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def answer(records: NDArray[Any]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = session.run([OUTPUT], {INPUT: records})[0]
        return probabilities

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the tools' warnings about tracing and about networks not optimised before."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
