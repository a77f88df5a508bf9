"""The split of each item on its own: a hash of its content, or of its group, and the seed."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

SIDES = ("train", "val", "test")  # in ascending order of precedence
TRAIN, VAL, TEST = range(3)


def fraction(seed: int, key: str) -> float:
    """Map a key to [0, 1), uniformly and the same on every machine: 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def side(u: float, val: float, test: float) -> str:
    """Split of a fraction u: [0, test) is test, [test, test + val) is val, the rest is train."""
    return SIDES[TEST if u < test else VAL if u < test + val else TRAIN]


def keys(items: pd.DataFrame) -> list[str]:
    """The key by which each item is drawn: its group if it has one, else its content."""
    pairs = zip(items["group"], items["content"], strict=True)
    return [f"group:{group}" if group else content for group, content in pairs]


def ranks(
    given: Iterable[str], drawn_by: Iterable[str], seed: int, val: float, test: float
) -> np.ndarray:
    """Split of each item, given or drawn by its key: N indices into SIDES.

    Args:
        given: N names of SIDES; '' for an item without a given split.
        drawn_by: N keys, see `keys`.
    """
    pairs = zip(given, drawn_by, strict=True)
    names = (name or side(fraction(seed, key), val, test) for name, key in pairs)
    return np.fromiter(map(SIDES.index, names), np.int8)


def highest(rank: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """For each item, the highest rank in its set; ``rank`` and ``sets`` are N integers."""
    highest_rank = np.zeros(sets.max(initial=-1) + 1, rank.dtype)
    np.maximum.at(highest_rank, sets, rank)
    return highest_rank[sets]
