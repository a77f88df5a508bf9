"""Weights of an installed package as a source of a run: bit for bit, and never a wrong name."""

import pytest
import torch

from tasks.training.pretrained_weights import unpack
from tests.transfer import tiny
from transfer.arms import pretrain
from transfer.core.errors import SettingsError
from transfer.modalities.image.networks import pretrained
from transfer.modalities.image.settings import ImageSettings
from transfer.modalities.image.spec import ImageSpec
from transfer.models.network import build
from transfer.models.parameter_transfer import knowledge_of, transplant
from transfer.settings.project import check

NAME = "efficientnet_lite0"
SIZE = 64
GREY, COLOUR = (ImageSpec(size=28, channels=channels) for channels in (1, 3))


def sized(size):
    return ImageSettings(pretrained_size=size)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The package, unpacked twice for grey images, for colour, and at another size."""
    if why := pretrained.available()[NAME]:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stored_sources = [unpack.fn(NAME, spec, sized(SIZE)) for spec in (GREY, GREY, COLOUR)]
        stored_sources.append(unpack.fn(NAME, GREY, sized(2 * SIZE)))
    return folder, stored_sources


@pytest.fixture
def knowledge(stored):
    folder, (first, *_) = stored
    return pretrain.load(folder / first.knowledge.path)


def test_every_weight_comes_back_bit_for_bit(knowledge):
    wanted = knowledge_of(pretrained.pretrained(NAME, channels=1, size=SIZE)).state
    assert knowledge.state.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert knowledge.state[name].dtype == tensor.dtype
        assert torch.equal(knowledge.state[name], tensor), name


def test_its_card_states_how_it_is_used(knowledge):
    wanted = knowledge_of(pretrained.pretrained(NAME, channels=1, size=SIZE))
    assert knowledge.backbone_spec == wanted.backbone_spec and knowledge.backbone_spec.name == NAME
    assert knowledge.fixed_normal and knowledge.normal == wanted.normal
    assert knowledge.class_names == ()


def test_what_was_stored_fits_a_network_for_any_target(knowledge):
    network = build(knowledge.backbone_spec, spec=tiny.spec(1), classes=4, seed=0)
    rows = transplant(network, knowledge, ("a", "b", "c", "d"))
    assert {row.action for row in rows if row.tensor.startswith("head.")} == {"reinitialised"}
    assert {row.action for row in rows if not row.tensor.startswith("head.")} <= {
        "copied",
        "sliced",
    }


def test_it_is_a_source_without_items_that_was_not_trained_here(stored):
    source = stored[1][0]
    assert (source.name, source.items, source.trained_here) == (NAME, None, False)


def test_it_is_unpacked_once_for_each_kind_and_size_of_image(stored):
    first, again, *others = (entry.knowledge for entry in stored[1])
    assert not first.reused and again.reused and again.path == first.path
    assert not any(entry.reused for entry in others)
    assert len({first.path, *(entry.path for entry in others)}) == 3


def test_images_are_resized_to_the_size_that_was_asked_for(stored):
    folder, stored_sources = stored
    sizes = [
        pretrain.load(folder / entry.knowledge.path).backbone_spec.options["size"]
        for entry in stored_sources
    ]
    assert sizes == [SIZE, SIZE, SIZE, 2 * SIZE]


@pytest.mark.parametrize("name", ["resnet", "efficientnet_lite9", ""])
def test_a_name_that_is_not_known_is_refused_with_the_names_there_are(name):
    with pytest.raises(SettingsError) as refused:
        check({"pretrained": [name]}, "params.yaml")
    for supported in pretrained.PACKAGES:
        assert supported in str(refused.value)
    assert f"{name!r} comes without weights" in str(refused.value)
    assert check({"pretrained": [NAME]}, "params.yaml").pretrained == (NAME,)
