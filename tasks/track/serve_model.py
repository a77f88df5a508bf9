"""How MLflow serves a model folder: images in, one column of probabilities for each class out.

MLflow copies this file and the library's source into every registered version and runs it there.
"""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

COLUMN = "image"
LONGEST_PATH = 4096  # characters; anything longer is not a path


class ServedModel(PythonModel):
    """A crosstrain model behind MLflow's one interface."""

    def load_context(self, context: Any) -> None:
        """Load the model folder. MLflow passes the argument by its name."""
        from transfer import predict

        self.predictor = predict.load(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probabilities, a row for each image and a column for each class.

        Args:
            context: not used.
            model_input: a frame with a column ``image``, a series or a list, of file paths, of the
                bytes or the base64 text of image files, or of arrays; or one uint8 array
                (N, H, W), (N, H, W, C), or of a single image (H, W), (H, W, C) with 1, 3 or 4
                channels. Whole numbers of 0 to 255 are taken for uint8.
            params: not used.

        Raises:
            MlflowException: the input is none of these, or an image cannot be decoded. A server
                answers 400 with the message.
        """
        from transfer.errors import CrosstrainError

        try:
            probabilities = self._answer(model_input)
        except (ValueError, CrosstrainError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(probabilities, columns=list(self.predictor.class_names))

    def _answer(self, model_input: object) -> NDArray[np.float32]:
        images = _unpack(model_input)
        if isinstance(images, np.ndarray):
            return self.predictor.predict_arrays(_batch(images))
        if isinstance(images[0], np.ndarray | list | tuple):
            each = [self.predictor.predict_arrays(_pixels(np.asarray(i))[None]) for i in images]
            return np.concatenate(each)
        files = [_file(item, row) for row, item in enumerate(images)]
        paths = [file for file in files if isinstance(file, Path)]
        if len(paths) == len(files):
            return self.predictor.predict_files(paths)
        whole = [file.read_bytes() if isinstance(file, Path) else file for file in files]
        return self.predictor.predict_bytes(whole)


def _unpack(model_input: object) -> NDArray[Any] | list[Any]:
    """The images as one array of numbers, or as a list that is not empty."""
    if isinstance(model_input, pd.DataFrame | dict):
        if COLUMN not in model_input:
            raise ValueError(
                f"found columns {[str(c) for c in model_input]}; expected one named {COLUMN!r}"
            )
        model_input = model_input[COLUMN]
    if isinstance(model_input, str | bytes | Path):
        return [model_input]
    if isinstance(model_input, np.ndarray) and model_input.dtype.kind not in "OSU":
        return model_input
    if not isinstance(model_input, Sequence | pd.Series | np.ndarray):
        raise ValueError(
            f"found {type(model_input).__name__}; expected image files as paths, bytes or base64, "
            "or uint8 arrays"
        )
    images = list(model_input)
    if not images:
        raise ValueError("found no images; expected at least one")
    return np.asarray(images) if _is_one_array(images) else images


def _is_one_array(images: list[Any]) -> bool:
    """Whether a list is the rows of one picture or the pictures of one batch, in numbers."""
    if isinstance(images[0], np.ndarray):
        return len({np.shape(image) for image in images}) == 1
    while isinstance(images, list | tuple) and images:
        images = images[0]
    return isinstance(images, int | float | np.number)


def _batch(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (N, H, W) or (N, H, W, C) of one image or a batch."""
    single = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return _pixels(images[None] if single else images)


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    if not images.size:
        raise ValueError(f"found no images in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
        raise ValueError(f"found an array of {images.dtype}; expected whole numbers of 0 to 255")
    return images.astype(np.uint8)


def _file(item: object, row: int) -> Path | bytes:
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, Path):
        return item
    if not isinstance(item, str):
        raise ValueError(
            f"row {row} is {type(item).__name__}; expected a file path, bytes, base64 or an array"
        )
    if len(item) < LONGEST_PATH and Path(item).is_file():
        return Path(item)
    try:
        return base64.b64decode(item.rpartition("base64,")[2], validate=True)
    except binascii.Error as error:
        raise ValueError(
            f"row {row}, {item[:60]!r}, is neither a file that exists nor base64"
        ) from error


set_model(ServedModel())
