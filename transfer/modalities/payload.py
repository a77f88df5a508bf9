"""Items in requests to a served model, whatever their modality: columns, lists and base64.

A string is read as base64 and never as the name of a file, so that no request can make a server
read its own files, or find out which files exist. Files are `pathlib.Path` objects, which no
request can contain.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transfer.modalities.interface import Payload

DATA_URI = re.compile(r"data:[^,]*;base64,")


def column_of(request: object, column: str) -> object:
    """The column of items of a frame or dictionary; anything else as it is.

    Raises:
        ValueError: the frame has no such column.
    """
    if not isinstance(request, pd.DataFrame | dict):
        return request
    if column not in request:
        names = [str(name) for name in request]
        raise ValueError(f"found columns {names}; expected one named {column!r}")
    return request[column]


def items_of(request: object, column: str, expected: str) -> Payload:
    """The items of a request: an array of numbers unchanged, else a list of items.

    Args:
        request: a frame with the column, a series, a list, an array, or a single file.
        column: name of the column.
        expected: what an item may be, for the message.

    Raises:
        ValueError: it is none of these, or holds no item.
    """
    values = column_of(request, column)
    if isinstance(values, np.ndarray) and not values.ndim:
        values = values.item()
    if isinstance(values, str | bytes | Path):
        return [values]
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OSU":
        return values
    if not isinstance(values, Sequence | pd.Series | np.ndarray):
        raise ValueError(f"found {type(values).__name__}; expected {expected}")
    return list(values)


def is_one_array(items: list[Any]) -> bool:
    """Whether a list is one array of numbers, given as its rows or its items, and not a list of
    separate items."""
    if isinstance(items[0], np.ndarray):
        return len({np.shape(item) for item in items}) == 1
    first: Any = items
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return isinstance(first, int | float | np.number)


def content(item: object, row: int) -> bytes:
    """The bytes of a file, from base64 text, bytes or a path.

    Raises:
        ValueError: the item is none of these, or is not base64; the message names its row.
    """
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
            f"item {row}, {item[:60]!r}, is not base64 ({error}); to send a file, put its content "
            "in base64 into the request"
        ) from error
