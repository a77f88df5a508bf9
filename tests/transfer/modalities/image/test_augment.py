"""Each part of the augmentation against a calculation of its own: NumPy, SciPy or by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from tests.transfer import tiny
from transfer.modalities.image import augment as library
from transfer.modalities.image.augment import AugmentPolicy, augment, mix
from transfer.training import batches

OFF = {
    "rotate": 0, "scale": 0, "stretch": 0, "translate": 0, "shear": 0, "brightness": 0,
    "contrast": 0,
}  # fmt: skip
GEOMETRY = {"rotate": 40, "scale": 0.3, "stretch": 0.3, "translate": 0.2, "shear": 20}


def only(**parts):
    return AugmentPolicy(**{**OFF, **parts})


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=6, channels=1, side=16, seed=0):
    return torch.rand(n, channels, side, side, generator=dice(seed))


def smooth(side=33):
    """A soft blob off the centre, one picture."""
    y, x = np.mgrid[:side, :side] / side
    blob = np.exp(-(((x - 0.4) / 0.2) ** 2 + ((y - 0.55) / 0.15) ** 2))
    return torch.from_numpy(blob).float()[None, None]


def warped_by_scipy(picture, matrix):
    """Bilinear resampling by an output-to-input map in coordinates from -1 to 1."""
    side = picture.shape[0]
    # pixel i stands at (2 i + 1) / side - 1; SciPy counts (row, column), the map (x, y)
    linear = matrix[::-1, 1::-1]
    centre = (side - 1) / 2
    offset = matrix[::-1, 2] * side / 2 + centre - linear @ np.array([centre, centre])
    return affine_transform(picture, linear, offset, order=1, mode="nearest")


# geometry


@pytest.mark.parametrize(
    "parts",
    [{k: v} for k, v in GEOMETRY.items()] + [GEOMETRY, {"crop": 0.5}, {**GEOMETRY, "crop": 0.3}],
    ids="+".join,
)
def test_pictures_are_warped_by_their_matrices_as_scipy_would(parts):
    policy, images = only(**parts), smooth().repeat(5, 1, 1, 1)
    matrices = library.affine_matrices(5, policy, dice(1)).double().numpy()
    found = augment(images, policy, dice(1)).numpy()
    for image, out, matrix in zip(images.numpy(), found, matrices, strict=True):
        np.testing.assert_allclose(out[0], warped_by_scipy(image[0], matrix), atol=1e-4)
    assert np.abs(found - images.numpy()).max() > 0.02


def decomposed(policy, n=400):
    """Rotation (degrees), shear (degrees), log size, log ratio and shift of drawn matrices."""
    matrices = library.affine_matrices(n, policy, dice(2)).double().numpy()
    a, b, c, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1]
    angle, across = np.arctan2(c, a), np.hypot(a, c)
    down = (a * d - b * c) / across
    shear = (a * b + c * d) / (across * down)
    told = np.degrees(angle), np.degrees(np.arctan(shear))
    return *told, np.log(across * down) / 2, np.log(across / down), matrices[:, :, 2]


def fills(values, largest):
    """Values that reach to both ends of -largest..largest and not beyond."""
    assert np.abs(values).max() <= largest * (1 + 1e-4) + 1e-6
    assert values.min() < -0.9 * largest and values.max() > 0.9 * largest
    assert abs(values.mean()) < 0.15 * largest


def test_draws_fill_the_ranges_that_the_policy_names():
    rotation, shear, size, ratio, shift = decomposed(only(**GEOMETRY))
    fills(rotation, 40)
    fills(shear, 20)
    fills(size, math.log(1.3))
    fills(ratio, math.log(1.3))
    for axis in (0, 1):
        fills(shift[:, axis], 2 * 0.2)  # a share of the side, in coordinates two sides wide


@pytest.mark.parametrize("part", GEOMETRY)
def test_a_part_that_is_off_moves_nothing_else(part):
    names = ("rotate", "shear", "scale", "stretch", "translate")
    found = dict(zip(names, decomposed(only(**{part: GEOMETRY[part]})), strict=True))
    for name, values in found.items():
        assert (np.abs(values).max() > 0.1) == (name == part), name


def test_a_quarter_turn_is_exact(monkeypatch):
    images = noise()
    monkeypatch.setattr(
        library, "_uniform", lambda n, largest, generator: torch.full((n,), largest)
    )
    turned = augment(images, only(rotate=90), dice())
    torch.testing.assert_close(turned, images.rot90(1, dims=(2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("part", "axis"), [("flip_horizontal", 3), ("flip_vertical", 2)])
def test_a_flip_is_exact_and_happens_to_half_of_the_pictures(part, axis):
    images = noise(200, 1, 8)
    found = augment(images, only(**{part: True}), dice())
    kept = (found - images).abs().amax((1, 2, 3)) < 1e-5
    flipped = (found - images.flip(axis)).abs().amax((1, 2, 3)) < 1e-5
    assert (kept ^ flipped).all()
    assert 70 < int(flipped.sum()) < 130


@settings(max_examples=40)
@given(st.floats(0.01, 0.9), st.integers(0, 999))
def test_a_crop_stays_inside_the_picture(crop, seed):
    matrices = library.affine_matrices(20, only(crop=crop), dice(seed))
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    assert (matrices @ corners).abs().max() <= 1 + 1e-6
    window = matrices[:, 0, 0]
    assert (window >= 1 - crop - 1e-6).all() and (window <= 1).all()
    assert torch.equal(window, matrices[:, 1, 1])


def test_beyond_the_picture_its_border_is_repeated():
    flat = torch.full((8, 3, 16, 16), 0.25)
    torch.testing.assert_close(augment(flat, only(**GEOMETRY), dice()), flat)


# light, noise, erasing


def test_brightness_adds_one_number_to_a_picture():
    images = 0.4 + 0.1 * noise(50)
    change = augment(images, only(brightness=0.3), dice()) - images
    spread = change.amax((1, 2, 3)) - change.amin((1, 2, 3))
    assert spread.max() < 1e-6
    fills(change.mean((1, 2, 3)).double().numpy(), 0.3)


def test_contrast_scales_the_distance_to_the_mean_of_the_picture():
    images = 0.4 + 0.2 * noise(50, channels=3)
    found = augment(images, only(contrast=0.5), dice())
    centre = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(found.mean((1, 2, 3)), centre.flatten())
    gain = (found - centre) / (images - centre)
    middle = gain.flatten(1).median(1).values
    far = (images - centre).abs() > 0.02
    torch.testing.assert_close(
        gain[far], middle.view(-1, 1, 1, 1).expand_as(gain)[far], rtol=1e-3, atol=1e-3
    )
    fills((middle - 1).double().numpy(), 0.5)


def test_light_is_cut_off_at_black_and_white():
    images = noise(40).round()
    found = augment(images, only(brightness=0.8, contrast=0.5), dice())
    assert found.min() == 0 and found.max() == 1


def test_noise_has_the_standard_deviation_it_claims():
    change = augment(torch.full((20, 1, 32, 32), 0.5), only(noise=0.07), dice()) - 0.5
    assert float(change.std()) == pytest.approx(0.07, rel=0.03)
    assert abs(float(change.mean())) < 0.005


def test_cutout_paints_a_square_in_the_colour_of_the_picture():
    images = noise(300, channels=3)
    found = augment(images, only(cutout=0.5), dice())
    hole = (found != images).any(1)
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    every_channel = hole[:, None].expand_as(images)
    torch.testing.assert_close(found[every_channel], mean[every_channel])
    assert torch.equal(found[~every_channel], images[~every_channel])
    sides = torch.stack([hole.any(2).sum(1), hole.any(1).sum(1)])
    assert torch.equal(hole.sum((1, 2)), sides[0] * sides[1])  # a solid rectangle
    assert int(sides.max()) == 8  # half of 16
    # the centre is anywhere: a side s of pixels is cut at the border by s / 4 on average
    expected = (0.5 * 16 * (1 - 0.5 / 4)) ** 2
    assert float(hole.sum((1, 2)).double().mean()) == pytest.approx(expected, rel=0.06)


def cubic(size, small):
    """Weights (size, small) of Keys' cubic convolution with a = -0.75, the border repeated."""
    weights, a = np.zeros((size, small)), -0.75
    for i in range(size):
        at = (i + 0.5) * small / size - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            d = abs(at - tap)
            near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[i, min(max(tap, 0), small - 1)] += near if d <= 1 else far if d < 2 else 0
    return weights


def area(size, small):
    """Weights (small, size) of the mean over the pixels that a cell touches."""
    weights = np.zeros((small, size))
    for i in range(small):
        low, high = i * size // small, -(-(i + 1) * size // small)
        weights[i, low:high] = 1 / (high - low)
    return weights


def test_resolution_shrinks_half_of_the_pictures_and_enlarges_them_again():
    images, sizes = noise(60), set()
    for seed in range(8):
        found = augment(images, only(resolution=0.4), dice(seed)).double().numpy()
        changed = np.abs(found - images.numpy()).max((1, 2, 3)) > 0
        share = 1 - 0.6 * float(torch.rand(1, generator=dice(seed)))
        small = round(16 * share)
        sizes.add(small)
        if small < 16:
            assert 15 < changed.sum() < 45
        there_and_back = cubic(16, small) @ area(16, small)
        expected = there_and_back @ images[changed].double().numpy() @ there_and_back.T
        np.testing.assert_allclose(found[changed], expected.clip(0, 1), atol=1e-5)
    assert len(sizes) > 3 and min(sizes) >= 6


# the whole


def test_a_policy_that_is_all_off_is_the_identity():
    images, targets = noise(), torch.eye(6)
    assert torch.equal(augment(images, only(), dice()), images)
    mixed = mix(images, targets, only(), dice())
    assert torch.equal(mixed[0], images) and torch.equal(mixed[1], targets)


POLICIES = st.builds(
    AugmentPolicy,
    rotate=st.floats(0, 180),
    scale=st.floats(0, 0.9),
    stretch=st.floats(0, 0.9),
    translate=st.floats(0, 0.5),
    shear=st.floats(0, 45),
    crop=st.floats(0, 0.9),
    flip_horizontal=st.booleans(),
    flip_vertical=st.booleans(),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 0.9),
    resolution=st.floats(0.11, 1),
    noise=st.floats(0, 1),
    cutout=st.floats(0, 0.9),
    mixup=st.sampled_from([0.0, 0.2, 1.0, 4.0]),
    cutmix=st.sampled_from([0.0, 0.2, 1.0, 4.0]),
)


@settings(max_examples=60)
@given(POLICIES, st.integers(1, 4), st.sampled_from([1, 3]), st.integers(8, 20), st.integers(0, 99))
def test_any_policy_keeps_shapes_ranges_and_distributions(policy, n, channels, side, seed):
    images = noise(n, channels, side, seed)
    original = images.clone()
    varied = augment(images, policy, dice(seed))
    mixed, targets = mix(varied, torch.eye(n), policy, dice(seed))
    for found in (varied, mixed):
        assert found.shape == images.shape and found.dtype == torch.float32
        assert found.min() >= 0 and found.max() <= 1 + 1e-6
    torch.testing.assert_close(targets.sum(1), torch.ones(n))
    assert targets.min() >= 0
    assert torch.equal(images, original)


@settings(max_examples=25)
@given(POLICIES, st.integers(0, 99))
def test_the_generator_alone_decides(policy, seed):
    images = noise(4)
    torch.manual_seed(seed)
    one, two = augment(images, policy, dice(seed)), augment(images, policy, dice(seed))
    assert torch.equal(one, two)
    mixed = [mix(images, torch.eye(4), policy, dice(seed)) for _ in range(2)]
    assert torch.equal(mixed[0][0], mixed[1][0]) and torch.equal(mixed[0][1], mixed[1][1])


@pytest.mark.parametrize(
    "parts",
    [{k: v} for k, v in GEOMETRY.items()]
    + [{"crop": 0.5}, {"brightness": 0.3}, {"contrast": 0.3}, {"noise": 0.1}, {"cutout": 0.4}],
    ids="+".join,
)
def test_each_picture_gets_draws_of_its_own(parts):
    one = noise(1)
    found = augment(one.repeat(8, 1, 1, 1), only(**parts), dice())
    for i in range(8):
        assert all(not torch.equal(found[i], found[j]) for j in range(i))


@pytest.mark.parametrize("parts", [GEOMETRY, {"brightness": 0.3, "contrast": 0.3}, {"cutout": 0.4}])
def test_a_picture_is_varied_alike_whatever_lies_beside_it(parts):
    one, other = noise(4), noise(4, seed=9)
    beside = torch.cat([one[:2], other[2:]])
    found = [augment(batch, only(**parts), dice()) for batch in (one, beside)]
    assert torch.equal(found[0][:2], found[1][:2])


# mixing


def test_mixup_blends_pictures_and_targets_by_one_share():
    images, targets = noise(), torch.eye(6)
    mixed, soft = mix(images, targets, only(mixup=1.0), dice(3))
    blended = (soft.diagonal() < 1).nonzero().flatten()
    share = float(soft.diagonal().min())
    assert len(blended) > 3 and 0 < share < 1
    torch.testing.assert_close(soft.diagonal()[blended], torch.full((len(blended),), share))
    torch.testing.assert_close(mixed.flatten(1), soft @ images.flatten(1))


def test_the_share_of_mixup_follows_its_beta():
    from scipy import stats

    generator = dice()
    shares = [library._beta(0.5, generator) for _ in range(800)]
    assert stats.kstest(shares, stats.beta(0.5, 0.5).cdf).pvalue > 0.01


@settings(max_examples=60)
@given(st.integers(0, 9999), st.sampled_from([0.2, 1.0, 5.0]))
def test_the_targets_of_cutmix_are_the_shares_of_pixels(seed, alpha):
    n, side = 5, 12
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, side, side) / n
    mixed, soft = mix(images, torch.eye(n), only(cutmix=alpha), dice(seed))
    for i in range(n):
        shares = [(mixed[i] == k / n).double().mean() for k in range(n)]
        np.testing.assert_allclose(soft[i], shares, atol=1e-6)


def test_cutmix_pastes_a_rectangle_of_another_picture_in_place():
    images = noise(4)
    mixed, soft = mix(images, torch.eye(4), only(cutmix=1.0), dice(6))
    hole = (mixed != images).any(1)
    changed = (hole.flatten(1).any(1)).nonzero().flatten()
    assert len(changed) > 0
    for i in changed:
        partner = int(soft[i].clone().index_fill_(0, i, 0).argmax())
        rows, columns = hole[i].any(1), hole[i].any(0)
        assert torch.equal(hole[i], rows[:, None] & columns)
        box = hole[i].expand_as(images[i])
        assert torch.equal(mixed[i][box], images[partner][box])


def test_the_box_of_cutmix_has_the_area_it_was_drawn_for_unless_the_border_cuts_it():
    images, other = noise(2), torch.tensor([1, 0])
    sizes = []
    for seed in range(80):
        mixed, left = library._paste(images, other, 0.75, dice(seed))
        hole = (mixed != images)[0, 0]
        sizes.append((int(hole.any(1).sum()), int(hole.any(0).sum())))
        assert left == pytest.approx(1 - float(hole.double().mean()))
    side = 16 * math.sqrt(1 - 0.75)
    assert {max(axis) for axis in zip(*sizes, strict=True)} == {round(side)}
    assert sum(size == (round(side),) * 2 for size in sizes) > 15


def test_with_both_a_batch_is_mixed_in_one_of_the_two_ways():
    images = torch.arange(4).float().view(4, 1, 1, 1).expand(4, 1, 12, 12) / 3
    ways = []
    for seed in range(60):
        mixed, _ = mix(images, torch.eye(4), only(mixup=1.0, cutmix=1.0), dice(seed))
        whole = mixed.flatten(1).std(1).max() < 1e-6
        ways.append("mixup" if whole else "cutmix")
    assert 12 < ways.count("cutmix") < 48


# the preview


def preview(images, policy, copies, seed=0):
    return batches.preview(images, policy, tiny.spec(3, size=16), copies, seed)


def test_a_preview_shows_copies_beside_one_another():
    images = (noise(3, channels=3) * 255).to(torch.uint8)
    policy = AugmentPolicy(rotate=30)
    shown = preview(images, policy, copies=4, seed=7)
    assert shown.shape == (3, 4, 3, 16, 16) and shown.dtype == torch.uint8
    assert torch.equal(shown, preview(images, policy, copies=4, seed=7))
    assert not torch.equal(shown, preview(images, policy, copies=4, seed=8))
    assert torch.equal(preview(images, only(), 2), images[:, None].expand(-1, 2, -1, -1, -1))


@pytest.mark.parametrize(
    ("field", "value"),
    [("rotate", 181), ("scale", 1), ("translate", 0.6), ("crop", 1), ("brightness", -1),
     ("cutout", 1), ("mixup", -0.1), ("flip", True)],
)  # fmt: skip
def test_a_policy_refuses_what_makes_no_sense(field, value):
    with pytest.raises(ValueError, match=field):
        AugmentPolicy(**{field: value})
