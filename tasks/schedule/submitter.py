"""Starts pretrainings, arms and searches, several at once, on whatever engine runs them."""

from collections.abc import Sequence
from typing import Any

from prefect.futures import as_completed

from tasks.runtime.artifacts import Source
from tasks.runtime.run_context import RunContext
from tasks.training import runners
from tasks.training.adapt import ArmJob, adapt
from tasks.training.pretrain import pretrain
from tasks.training.pretrained_weights import unpack
from tasks.training.search import search
from transfer.arms.plan import ArmPlan
from transfer.training.feature_cache import Features


class ArmSubmitter:
    """Submits trainings to an engine; when ``stop`` of that engine is set, all of them stop."""

    def __init__(self, runner: runners.Runner, context: RunContext) -> None:
        self.runner, self.context, self.features = runner, context, Features()

    @property
    def searches(self) -> bool:
        """Whether settings are searched; without target labels trials cannot be compared."""
        return self.context.settings.adapt.trials > 0 and self.context.labelled

    def pretrain(self, name: str, beside: int, until: float | None = None) -> Any:
        """Start a pretraining; see `tasks.training.pretrain.pretrain`."""
        return self.runner.submit(pretrain, name, self.context, beside, self.runner.stop, until)

    def unpack(self) -> list[Source]:
        """Take the weights of the installed packages that the settings name."""
        settings = self.context.settings
        return [unpack(name, self.context.spec, settings.input) for name in settings.pretrained]

    def arm(
        self, plan: ArmPlan, seed: int, sources: Sequence[Source], until: float | None = None
    ) -> Any:
        """Start one arm; see `tasks.training.adapt.adapt`."""
        job = ArmJob.of(plan, seed, sources)
        return self.runner.submit(adapt, job, self.context, self.runner.stop, self.features, until)

    def arms(
        self, plans: Sequence[ArmPlan], seeds: Sequence[int], sources: Sequence[Source] = ()
    ) -> list[Any]:
        """Start the arms of plans, with each of the seeds."""
        return [self.arm(plan, seed, sources) for plan in plans for seed in seeds]

    def search(self, plans: Sequence[ArmPlan], sources: Sequence[Source] = ()) -> list[Any]:
        """Start the search for the settings of plans, with a seed that no arm has."""
        seed, stop = max(self.context.settings.adapt.seeds) + 1, self.runner.stop
        return [
            self.runner.submit(search, plan, seed, sources, self.context, stop, self.features)
            for plan in plans
        ]

    def first_done(self, futures: Sequence[Any]) -> Any:
        """The first of these trainings to end; raises what that raised."""
        future = next(as_completed(list(futures)))
        self.runner.result(future)
        return future

    def done(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for trainings, and raise what the first one that fails raises."""
        for future in as_completed(list(futures)):
            self.runner.result(future)
        return [self.runner.result(future) for future in futures]
