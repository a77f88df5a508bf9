"""How MLflow serves a model folder: images in, for each a class, probabilities and the version out.

MLflow copies this file and an archive of the library's source into every registered version and
runs it there.

A text is base64 and never the name of a file, so that no request can make a server read its own
files, or learn which there are. Files are `pathlib.Path` objects, which no request can hold.
"""

import base64
import binascii
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

COLUMN = "image"
FEW = 16
"""Pictures below which one thread does."""
REGISTERED = "registered.json"
DATA_URI = re.compile(r"data:[^,]*;base64,")


class Refused(MlflowException):
    """What is wrong with an input, and no more; a server answers 400 with it.

    The scoring server sets the message anew, with the whole input in front of it.
    """

    def __init__(self, told: str) -> None:
        self._told = told
        super().__init__(told, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self._told

    @message.setter
    def message(self, told: str) -> None:
        pass


class ServedModel(PythonModel):
    """A crosstrain model behind MLflow's one interface."""

    def load_context(self, context: Any) -> None:
        """Load the model folder, with the library that made it. MLflow names the argument."""
        sys.path.insert(0, context.artifacts["library.zip"])
        import torch

        from transfer.models import predictor as predict

        folder = Path(context.artifacts["model"])
        self.predictor = predict.load(folder)
        self.threads = torch.get_num_threads()
        self.identity = _identity(folder.with_name(REGISTERED))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each image.

        Args:
            context: not used.
            model_input: a frame with a column ``image``, a series or a list, of the base64 text
                or the bytes of image files, of ``pathlib.Path``, or of arrays; or one uint8 array
                (N, H, W), (N, H, W, C), or of a single image (H, W), (H, W, C) with 1, 3 or 4
                channels. Whole numbers of 0 to 255 are taken for uint8.
            params: not used.

        Returns:
            For each image: ``label``, ``probability``, ``probabilities`` by class in the model's
            order, and ``model`` and ``version`` as registered, null when they are not.

        Raises:
            MlflowException: the input is none of these, or an image cannot be decoded. A server
                answers 400 with the message.
        """
        from transfer.core.errors import CrosstrainError

        try:
            images = _unpack(model_input)
            with self._threads(len(images)):
                probabilities = self._answer(images)
        except (ValueError, CrosstrainError) as error:
            raise Refused(str(error)) from error
        return [self._told(row) for row in probabilities]

    def _told(self, row: NDArray[np.float32]) -> dict[str, Any]:
        shares = [float(str(share)) for share in row]  # the shortest text of a float32
        best = int(row.argmax())
        names = self.predictor.class_names
        return {
            "label": names[best],
            "probability": shares[best],
            "probabilities": dict(zip(names, shares, strict=True)),
            **self.identity,
        }

    @contextmanager
    def _threads(self, n: int) -> Iterator[None]:
        """Let few pictures pass on one thread.

        A server answers several requests at once, and what a small picture has to compute is less
        than what threads cost to wake.
        """
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1 if n < FEW else self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _answer(self, images: NDArray[Any] | list[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K)."""
        from transfer.modalities.image.decode import from_array

        if isinstance(images, np.ndarray):
            return self.predictor.predict_arrays(_pixels(images))
        if isinstance(images[0], np.ndarray | list | tuple):
            spec = self.predictor.card.spec
            arrays = [from_array(_pixels(np.asarray(image)), spec) for image in images]
            return self.predictor.predict_tensors(np.stack(arrays))
        if all(isinstance(image, Path) for image in images):
            return self.predictor.predict_files(images)
        return self.predictor.predict_bytes([_content(one, row) for row, one in enumerate(images)])


def _identity(file: Path) -> dict[str, Any]:
    """Name and version, which are written beside the model once it has them."""
    nobody = {"model": None, "version": None}
    return nobody | json.loads(file.read_text()) if file.is_file() else nobody


def _unpack(model_input: object) -> NDArray[Any] | list[Any]:
    """The images as one array of numbers, the first axis of which is theirs, or as a list."""
    if isinstance(model_input, pd.DataFrame | dict):
        if COLUMN not in model_input:
            raise ValueError(
                f"found columns {[str(c) for c in model_input]}; expected one named {COLUMN!r}"
            )
        model_input = model_input[COLUMN]
    if isinstance(model_input, np.ndarray) and not model_input.ndim:
        model_input = model_input.item()
    if isinstance(model_input, str | bytes | Path):
        return [model_input]
    if isinstance(model_input, np.ndarray) and model_input.dtype.kind not in "OSU":
        return _batch(model_input)
    if not isinstance(model_input, Sequence | pd.Series | np.ndarray):
        raise ValueError(
            f"found {type(model_input).__name__}; expected image files as base64, bytes or "
            "pathlib.Path, or uint8 arrays"
        )
    images = list(model_input)
    if not images:
        raise ValueError("found no images; expected at least one")
    return _batch(_one_array(images)) if _is_one_array(images) else images


def _is_one_array(images: list[Any]) -> bool:
    """Whether a list is the rows of one picture or the pictures of one batch, in numbers."""
    if isinstance(images[0], np.ndarray):
        return len({np.shape(image) for image in images}) == 1
    while isinstance(images, list | tuple) and images:
        images = images[0]
    return isinstance(images, int | float | np.number)


def _one_array(images: list[Any]) -> NDArray[Any]:
    try:
        return np.asarray(images)
    except ValueError as error:
        raise ValueError(
            "found rows or pictures of several sizes in one array; send pictures of several sizes "
            f"as a column {COLUMN!r} of arrays, such as dataframe_split"
        ) from error


def _batch(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) or (N, H, W, C) of one image or a batch."""
    single = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return images[None] if single else images


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    if not images.size:
        raise ValueError(f"found no images in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
        raise ValueError(f"found an array of {images.dtype}; expected whole numbers of 0 to 255")
    return images.astype(np.uint8)


def _content(item: object, row: int) -> bytes:
    """The bytes of an image file."""
    if isinstance(item, Path):
        return item.read_bytes()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if not isinstance(item, str):
        raise ValueError(
            f"item {row} is {type(item).__name__}; expected base64, bytes, pathlib.Path or an array"
        )
    try:
        return base64.b64decode("".join(DATA_URI.sub("", item, count=1).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"item {row}, {item[:60]!r}, is not base64 ({error}); a file on the machine that asks "
            "goes as its content in base64"
        ) from error


set_model(ServedModel())
