"""First the head, then everything from that head, within one budget."""

import torch

from tests.transfer import tiny
from transfer.methods.fine_tuning.fine_tune import FineTune
from transfer.methods.fine_tuning.lp_ft import LinearProbeThenFineTune
from transfer.methods.frozen_features.linear_probe import LinearProbe
from transfer.modalities.image.augment import AugmentPolicy


class Noted(LinearProbeThenFineTune):
    """Keeps the network's tensors before the first step of the second phase."""

    def loss(self, prepared, batch, progress):
        if progress == 0:
            STARTS.append(tiny.state(prepared.network))
        return super().loss(prepared, batch, progress)


STARTS = []


def test_both_phases_share_one_budget():
    seen = tiny.items()
    for share in (0.3, 0.5):
        method = LinearProbeThenFineTune(probe_share=share)
        trainer = tiny.trainer(method, seen, tiny.recipe(seen, steps=10))
        trainer.train()
        assert trainer.steps == 10 and trainer.phases == 2
        assert trainer.history.step[-1] == 10


def test_the_second_phase_starts_from_the_probes_head_and_the_sources_backbone():
    STARTS.clear()
    seen = tiny.items()
    recipe = tiny.recipe(seen, AugmentPolicy(), steps=20)
    method = Noted(probe_share=0.5, probe_rate=0.03, views=3)
    tiny.trainer(method, seen, recipe).train()
    alone = LinearProbe(learning_rate=0.03, views=3)
    half = tiny.recipe(seen, AugmentPolicy(), steps=10)
    probed = tiny.trainer(alone, seen, half).train().network
    (start,) = STARTS
    assert tiny.same(start, probed.state_dict())


def test_after_the_probe_every_parameter_moves_at_the_rates_of_fine_tuning():
    seen = tiny.items()
    STARTS.clear()
    result = tiny.trainer(Noted(), seen, tiny.recipe(seen, AugmentPolicy(), steps=10)).train()
    (start,) = STARTS
    for name, parameter in result.network.named_parameters():
        assert not torch.equal(parameter, start[name]), name
    given = (tiny.network(), tiny.knowledge(), tiny.CLASSES)
    mine = LinearProbeThenFineTune(learning_rate=0.2, backbone_rate=0.4, decay=0.5).prepare(*given)
    plain = FineTune(learning_rate=0.2, backbone_rate=0.4, decay=0.5).prepare(*given)
    assert [rate for _, rate in mine.rates] == [rate for _, rate in plain.rates]
    assert [[p.shape for p in group] for group, _ in mine.rates] == [
        [p.shape for p in group] for group, _ in plain.rates
    ]
