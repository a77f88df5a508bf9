"""Models to export: of any backbone, of several members, and one that has learned something."""

import numpy as np

from tests.transfer import tiny
from transfer.data.items import PoolItems, TestItems
from transfer.modalities.image.spec import ImageLimits, ImageSpec
from transfer.modalities.normalisation import Normalisation
from transfer.models.checkpoint import save_model
from transfer.models.network import build
from transfer.models.predictor import Card, Member, tensor_name


def of(folder, members, networks, *, size=tiny.SIDE, channels=1, names=tiny.CLASSES, **spec):
    """Write a model folder; ``networks`` are those of each member."""
    state = {
        tensor_name(m, n, key): tensor
        for m, some in enumerate(networks)
        for n, network in enumerate(some)
        for key, tensor in network.state_dict().items()
    }
    card = Card(
        target="hedge",
        class_names=names,
        spec=ImageSpec(size=size, channels=channels, **spec),
        limits=ImageLimits(),
        members=tuple(members),
        data={"hedge": "0" * 32},
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, card, state)
    return folder


def single(folder, backbone_spec, *, size=28, channels=1):
    """One network of random weights, sharpened so that its probabilities differ."""
    network = build(backbone_spec, spec=tiny.spec(channels), classes=3, seed=4)
    normal = network.backbone.normal or Normalisation(mean=(0.4,) * channels, std=(0.2,) * channels)
    member = Member(
        arm="scratch/0",
        weight=1.0,
        temperature=0.1,
        networks=1,
        backbone_spec=backbone_spec,
        normal=normal,
    )
    return of(folder, [member], [[network]], size=size, channels=channels)


def trained(folder):
    """Two members of two and one network that tell the bands of `tiny` apart."""
    known = [tiny.knowledge(tiny.CLASSES, seed=seed) for seed in (100, 200, 300)]
    networks = []
    for one in known:
        network = tiny.network(3)
        network.load_state_dict(one.state)
        networks.append(network)
    members = [
        Member(
            arm=f"fine_tune/{i}",
            weight=weight,
            temperature=warmth,
            networks=count,
            backbone_spec=tiny.BODY,
            normal=known[0].normal,
        )
        for i, (weight, warmth, count) in enumerate([(0.25, 0.8, 2), (0.75, 1.6, 1)])
    ]
    return of(folder, members, [networks[:2], networks[2:]])


def held_out(n=90, seed=31):
    """Items that no network has seen."""
    found = tiny.items(n, seed=seed)
    return TestItems(found.records, found.labels, found.ids)


def pool(n=48, seed=9):
    """Pictures of a training split."""
    return tiny.pool(n, seed=seed)


def dark(n=20):
    """Pictures that say nothing of the ranges."""
    found = tiny.pool(n)
    return PoolItems(found.records * 0, found.ids, found.groups)


def noise(n, size, channels, seed=0):
    """(N, C, S, S) uint8, each picture brighter than the one before."""
    shape = (n, channels, size, size)
    pixels = np.random.default_rng(seed).integers(0, 256, shape)
    return (pixels * np.linspace(0.1, 1, n)[:, None, None, None]).astype(np.uint8)
