"""Batches, augmented views and answers depend on seeds and steps alone."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer import tiny
from transfer.data.storage.tensor_store import held
from transfer.modalities.image.augment import AugmentPolicy
from transfer.training.batches import batches, embed, logits, resident, to_input, training_batch
from transfer.training.recipe import Machine

VARIED = AugmentPolicy(noise=0.05, cutout=0.2, mixup=0.4, cutmix=0.4)


@given(st.integers(1, 40), st.integers(2, 50), st.integers(0, 2**31), st.integers(1, 12))
def test_every_pass_is_a_permutation(n, size, seed, steps):
    rows = torch.cat(list(batches(n, size, seed, 0, steps)))
    assert len(rows) == size * steps
    for start in range(0, len(rows) - n + 1, n):
        assert sorted(rows[start : start + n].tolist()) == list(range(n))


@given(st.integers(1, 30), st.integers(2, 40), st.integers(0, 10), st.integers(0, 10))
def test_batches_do_not_depend_on_where_a_run_starts(n, size, start, more):
    whole = list(batches(n, size, 7, 0, start + more))
    tail = list(batches(n, size, 7, start, start + more))
    assert [b.tolist() for b in whole[start:]] == [b.tolist() for b in tail]


def test_passes_and_seeds_have_orders_of_their_own():
    first, second = batches(50, 50, 0, 0, 2)
    (other,) = batches(50, 50, 1, 0, 1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_logits_do_not_depend_on_the_chunks():
    items = tiny.items()
    recipe = tiny.recipe(items)
    network = tiny.network().eval()
    whole = logits(network, items.records, recipe)
    assert whole.shape == (24, 3) and whole.dtype == torch.float32
    network.backbone.chunk = 5
    np.testing.assert_allclose(whole, logits(network, items.records, recipe), atol=1e-5)
    assert logits(network, items.records[:0], recipe).shape == (0, 3)


def test_precision_is_that_of_the_products():
    # No training in bf16 here: on a CPU that announces AMX to a guest without allowing it, the
    # backward pass of a convolution ends the process.
    rows = torch.rand(2, 4)
    with Machine(precision="bf16").autocast():
        assert (rows @ rows.T).dtype == torch.bfloat16
    with Machine().autocast():
        assert (rows @ rows.T).dtype == torch.float32


def test_views_are_features_of_augmented_items():
    items = tiny.items(6)
    network = tiny.network().eval()
    plain = embed(network, items.records, 2, tiny.recipe(items), seed=0)
    with torch.no_grad():
        expected = network.backbone(to_input(items.records, tiny.recipe(items)))
    assert plain.shape == (2, 6, 32)
    for view in plain:
        np.testing.assert_allclose(view, expected, atol=1e-5)
    varied = embed(network, items.records, 2, tiny.recipe(items, AugmentPolicy()), seed=0)
    assert not torch.allclose(varied[0], varied[1])
    assert torch.equal(
        varied, embed(network, items.records, 2, tiny.recipe(items, AugmentPolicy()), seed=0)
    )


def test_a_view_is_never_mixed_with_an_item_of_another_label():
    items = tiny.items(6)
    network = tiny.network().eval()
    mixing = tiny.STILL.model_copy(update={"mixup": 1.0, "cutmix": 1.0})
    plain = embed(network, items.records, 3, tiny.recipe(items), seed=0)
    assert torch.equal(embed(network, items.records, 3, tiny.recipe(items, mixing), seed=0), plain)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 50))
def test_augmentation_depends_on_seed_and_step_alone(seed, step):
    items = tiny.items(4)
    recipe = tiny.recipe(items, VARIED)
    rows = torch.tensor([2, 0, 3])
    first = training_batch(items, rows, recipe, seed, step)
    torch.rand(3)
    again = training_batch(items, rows, recipe, seed, step)
    other = training_batch(items, rows, recipe, seed, step + 1)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_pictures_in_memory_go_to_the_device_once_and_those_on_disk_stay():
    items = tiny.items()
    assert resident(items, "cpu") is items
    moved = resident(items, "meta")
    assert (moved.records.device.type, moved.records.shape) == ("meta", items.records.shape)
    assert moved.labels is items.labels
    on_disk = replace(items, records=held(items.records))
    assert resident(on_disk, "meta") is on_disk
