import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.core.errors import SettingsError
from transfer.data.splits import duplicates
from transfer.data.splits.duplicates import NearPair, linked_sets
from transfer.modalities.image.tensors import thumbnails


def pictures(seed, n, channels=1, height=20, width=28):
    """Smooth random pictures, so that noise on top changes a thumbnail little."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, channels, 4, 4))
    fine = coarse.repeat(-(-height // 4), axis=2).repeat(-(-width // 4), axis=3)
    return fine[:, :, :height, :width].astype(np.uint8)


def noisy(images, seed, spread):
    noise = np.random.default_rng(seed).integers(-spread, spread + 1, images.shape)
    return np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)


def brute_thumbnail(image):
    """Area means from a picture enlarged by 16, whose cells are whole pixels."""
    grey = image.astype(np.float64).mean(axis=0)
    big = np.kron(grey, np.ones((16, 16)))
    h, w = grey.shape
    return big.reshape(16, h, 16, w).mean(axis=(1, 3)).ravel() / 255


def near_pairs(images, ids, sides, *, max_rms):
    """Search these pictures."""
    items = pd.DataFrame({"id": pd.Series(ids, dtype="str")})
    side_column = pd.Series(sides, dtype="str")
    records = torch.from_numpy(images)
    return duplicates.near_pairs(
        records, items, side_column, modality=tiny.MODALITY, max_rms=max_rms
    )


def brute_pairs(images, ids, sides, max_rms):
    thumbs = [brute_thumbnail(image) for image in images]
    expected = {}
    for i, j in itertools.permutations(range(len(ids)), 2):
        rms = np.sqrt(np.mean((thumbs[i] - thumbs[j]) ** 2))
        if sides[i] < sides[j] and "excluded" not in (sides[i], sides[j]) and rms <= max_rms:
            expected[ids[i], ids[j]] = rms
    return expected


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16), (1, 8, 8), (3, 37, 21), (1, 1, 50)])
def test_thumbnails_are_area_means_at_any_size(shape):
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    expected = [brute_thumbnail(image) for image in images]
    np.testing.assert_allclose(thumbnails(images), expected, atol=1e-6)


def test_near_pairs_equal_a_brute_force_search():
    base = pictures(1, 40, channels=3)
    images = np.concatenate([base, noisy(base[:25], 2, 12), noisy(base[10:20], 3, 40)])
    ids = [f"item/{i:03}" for i in range(len(images))]
    sides = np.random.default_rng(4).choice(["train", "val", "test", "excluded"], len(images))
    expected = brute_pairs(images, ids, sides, 0.06)
    pairs = near_pairs(images, ids, sides, max_rms=0.06)
    assert len(expected) > 10
    assert {(p.a, p.b) for p in pairs} == set(expected)
    assert [p.rms for p in pairs] == sorted(p.rms for p in pairs)
    for pair in pairs:
        assert pair.rms == pytest.approx(expected[pair.a, pair.b], abs=1e-6)


def test_blocks_do_not_change_what_is_found(monkeypatch):
    base = pictures(5, 60)
    images, ids = np.concatenate([base, noisy(base, 6, 9)]), [str(i) for i in range(120)]
    sides = ["test"] * 60 + ["train"] * 60
    whole = near_pairs(images, ids, sides, max_rms=0.03)
    monkeypatch.setattr(duplicates, "_ROWS", 7)
    monkeypatch.setattr(duplicates, "_RECHECK", 3)
    assert near_pairs(images, ids, sides, max_rms=0.03) == whole
    assert {(p.a, p.b) for p in whole} == {(str(i), str(i + 60)) for i in range(60)}


def test_of_many_items_some_are_searched_for_and_all_that_they_have(monkeypatch):
    base = pictures(5, 60)
    images, ids = np.concatenate([base, noisy(base, 6, 9), base]), [str(i) for i in range(180)]
    sides = ["test"] * 60 + ["train"] * 60 + ["val"] * 60
    whole = near_pairs(images, ids, sides, max_rms=0.03)
    monkeypatch.setattr(duplicates, "JUDGED", 10)
    items = pd.DataFrame({"id": ids}, dtype="str")
    about = duplicates.judged(items, pd.Series(sides))
    assert [len(rows) for rows in about.values()] == [10, 10]
    chosen = {ids[row] for rows in about.values() for row in rows}
    expected = [pair for pair in whole if {pair.a, pair.b} & chosen]
    assert near_pairs(images, ids, sides, max_rms=0.03) == expected
    assert 20 < len(expected) < len(whole)


def test_a_tiny_distance_survives_float32():
    """|x|^2 + |y|^2 - 2xy alone, in float32, cannot tell 1e-5 from 0."""
    thumbs = np.random.default_rng(7).uniform(0, 1, (50, 256)).astype(np.float32)
    moved = thumbs + np.float32(2e-5)
    assert not any(len(rows) for rows, *_ in duplicates.close(thumbs, moved, 1e-5))
    ((a, b, rms),) = duplicates.close(thumbs, moved, 3e-5)
    assert a.tolist() == b.tolist() == list(range(50))
    np.testing.assert_allclose(rms, 2e-5, rtol=0.01)


def test_pictures_that_became_equal_by_resizing_are_reported():
    images = pictures(8, 1).repeat(2, axis=0)
    assert near_pairs(images, ["x", "y"], ["train", "test"], max_rms=0) == [NearPair("y", "x", 0.0)]


def test_the_search_stops_when_the_limit_says_nothing(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 10)
    images, ids = np.zeros((30, 1, 8, 8), np.uint8), [str(i) for i in range(30)]
    pairs = near_pairs(images, ids, ["train", "test"] * 15, max_rms=0.1)
    assert len(pairs) == 10


@pytest.mark.parametrize("sides", [[], ["train"] * 3, ["excluded", "train", "excluded"]])
def test_nothing_to_compare(sides):
    images = np.zeros((len(sides), 1, 8, 8), np.uint8)
    assert near_pairs(images, [str(i) for i in range(len(sides))], sides, max_rms=0.1) == []


def test_bad_arguments_are_refused():
    images = np.zeros((2, 1, 8, 8), np.uint8)
    with pytest.raises(SettingsError, match="max_rms is 2"):
        near_pairs(images, ["a", "b"], ["train", "test"], max_rms=2)
    with pytest.raises(SettingsError, match="2 records, 1 items"):
        near_pairs(images, ["a"], ["train", "test"], max_rms=0.1)


few = st.sampled_from(["", "p", "q", "r", "s"])
rows = st.lists(st.tuples(few.filter(bool), few, few, st.sampled_from(["PNG", "array"])))


def belong_together(x, y):
    (pixels, sha256, group, form), (pixels2, sha256_2, group2, form2) = x, y
    same_file = sha256 == sha256_2 != "" and "array" not in (form, form2)
    return pixels == pixels2 or same_file or group == group2 != ""


@settings(deadline=None)
@given(rows)
def test_linked_sets_are_the_connected_components(rows):
    items = pd.DataFrame(rows, columns=["content", "sha256", "group", "format"], dtype="str")
    expected = list(range(len(rows)))
    for _ in rows:  # each round passes the smallest number one link further
        expected = [
            min([expected[j] for j, y in enumerate(rows) if belong_together(x, y)]) for x in rows
        ]
    assert linked_sets(items).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_what_occurs_twice_is_found_also_where_half_of_its_bits_are_those_of_others(halves):
    values = np.array([high << 32 | low for high, low in halves], np.uint64)
    rows, codes = duplicates.repeated(values)
    numbers = values.tolist()
    again = sorted(v for v in set(numbers) if v != duplicates.BLANK and numbers.count(v) > 1)
    assert rows.tolist() == [row for row, v in enumerate(numbers) if v in again]
    assert codes.tolist() == [again.index(v) for v in numbers if v in again]
