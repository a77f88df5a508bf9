"""A soup: the average of several fine-tunings, each kept only where it helps."""

from typing import Annotated, ClassVar

from pydantic import Field

from transfer.methods.building_blocks.averaging import copied, greedy, held_out, mean, reestimate
from transfer.methods.building_blocks.closed_form_heads import losses
from transfer.metrics.calibration import fit_temperature
from transfer.models.network import Network
from transfer.training.batches import logits
from transfer.training.method import FineTuning, Job, Trained


class Soup(FineTuning):
    """Greedy model soup of fine-tunings that differ in learning rate and in the order of items.

    Wortsman et al., ICML 2022. All start from the same weights, the head's too, and share the
    training budget: each takes ``1 / len(rates)`` of the steps. One part of the labelled items is
    held out from all of them. The fine-tuning with the lowest log loss there is the first
    ingredient; another one, in the order of their own losses, is added if the loss of the average
    ``(w_1 + ... + w_n) / n`` falls. The paper uses accuracy, which has too few different values on
    a few held-out items; the loss is computed after temperature scaling, so that networks that are
    only more confident do not win. The price: the held-out items are not trained on. Batch
    statistics of an average are measured anew on the items that are.
    """

    paper: ClassVar[str] = "Wortsman et al., 2022"
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate of the head, before it is multiplied by one of `rates`."""
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.5, 3.0), min_length=1)
    """A factor of the learning rate for each ingredient. Equal ones differ in order and views."""
    parts: int = Field(6, ge=2)
    """One in this many labelled items is held out, to choose the ingredients on."""

    def train(self, job: Job) -> Trained:
        held = held_out(job.labelled, self.parts, job.seed)
        train, judges = job.labelled.take(~held), job.labelled.take(held)
        labels = judges.labels.numpy()
        states = []
        for factor in self.rates:
            prepared = self._scaled(factor).prepare(job.network(), job.knowledge, job.class_names)
            network = job.fit(self, prepared, train, share=1 / len(self.rates))
            states.append(copied(network))

        def blend(chosen: list[int]) -> Network:
            network.load_state_dict(mean([states[i] for i in chosen]))
            if len(chosen) > 1:
                reestimate(network, train, job.recipe, job.seed)
            return network

        def loss(chosen: list[int]) -> float:
            scores = logits(blend(chosen), judges.records, job.recipe).double().numpy()
            temperature = fit_temperature(scores, labels)
            return float(losses(scores / temperature, labels).mean())

        everything = list(range(len(states)))
        kept = greedy(len(states), loss) if len(judges) else everything
        rates = ", ".join(f"{self.rates[i]:g}" for i in kept)
        notes: dict[str, float | str] = {
            "kept": float(len(kept)),
            "refused": float(len(states) - len(kept)),
            "rates kept": rates,
            "held out": float(len(judges)),
        }
        return Trained(blend(kept), prepared.transfers, notes=notes)

    def _scaled(self, factor: float) -> "Soup":
        return self.model_copy(update={"learning_rate": self.learning_rate * factor})


METHOD = Soup
