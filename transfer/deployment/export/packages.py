"""The packages that exports need, which are optional."""

import importlib
from importlib.metadata import version
from typing import Any

from transfer.core.errors import SettingsError


def package(name: str) -> Any:
    """Import a package of the extra `edge`, or one of its modules.

    Raises:
        SettingsError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a version that does not fit the others raises anything
        raise SettingsError(
            f"{name} cannot be imported ({type(error).__name__}: {error}); exports to ONNX need "
            "it: pip install 'crosstrain[edge]'"
        ) from error


def versions() -> dict[str, str]:
    """Versions of the packages that determine an ONNX file and its answers.

    Raises:
        SettingsError: a package is not installed.
    """
    for name in ("onnx", "onnxruntime"):
        package(name)
    return {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
