"""How MLflow serves a model folder: items in, for each a class, probabilities and the version out.

MLflow copies this file and an archive of the library's source into every registered version and
runs it there.

What a request may hold is the modality's: see `unpack` of the model's. No text in it is ever the
name of a file, so that no request can make a server read its own files, or learn which there are;
files are `pathlib.Path` objects, which no request can hold.
"""

import json
import sys
from collections.abc import Iterator
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

FEW = 16
"""Items below which one thread does."""
REGISTERED = "registered.json"


class Refused(MlflowException):
    """What is wrong with an input, and no more; a server answers 400 with it.

    The scoring server sets the message anew, with the whole input in front of it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        super().__init__(text, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self._text

    @message.setter
    def message(self, text: str) -> None:
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
        """One answer for each item.

        Args:
            context: not used.
            model_input: a frame with the modality's column, a series, a list or an array, as
                `transfer.modalities.interface.Modality.unpack` says.
            params: not used.

        Returns:
            For each item: ``label``, ``probability``, ``probabilities`` by class in the model's
            order, and ``model`` and ``version`` as registered, null when they are not.

        Raises:
            MlflowException: the input is none of these, or an item cannot be decoded. A server
                answers 400 with the message.
        """
        from transfer.core.errors import CrosstrainError

        try:
            items = self.predictor.modality.unpack(model_input)
            with self._threads(len(items)):
                probabilities = self.predictor.predict_payload(items)
        except (ValueError, CrosstrainError) as error:
            raise Refused(str(error)) from error
        return [self._answer(row) for row in probabilities]

    def _answer(self, row: NDArray[np.float32]) -> dict[str, Any]:
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
        """Let few items pass on one thread.

        A server answers several requests at once, and what a small item has to compute is less
        than what threads cost to wake.
        """
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1 if n < FEW else self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _identity(file: Path) -> dict[str, Any]:
    """Name and version, which are written beside the model once it has them."""
    nobody = {"model": None, "version": None}
    return nobody | json.loads(file.read_text()) if file.is_file() else nobody


set_model(ServedModel())
