"""Training: pretrain on every source, plan the arms and train them, several at once."""

from tasks.runtime.artifacts import ArmRef, Divided, Ref, Source
from tasks.schedule.budgeted_training import within
from tasks.schedule.cost_probe import Bench, suit
from tasks.schedule.plan import check, finalists, plans
from tasks.schedule.submitter import Crew
from tasks.schedule.time_budget import Allowance
from tasks.training import machine as machines
from tasks.training import runners
from tasks.training.advise import advise, promising
from transfer.modalities.interface import InputSpec
from transfer.settings.project import Settings
from transfer.training.recipe import Machine


def fitted(
    sources: dict[str, Divided],
    target: Divided,
    spec: InputSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
    allowance: Allowance,
) -> Settings:
    """Refuse what could not be trained, and fit the number of steps to the budget, if there is
    one."""
    check(settings, sources, target)
    if not allowance.limited:
        return settings
    at_once = machines.workers(settings.run, machine)
    bench = Bench(_bodies(sources, settings), target, spec, folds, machine, at_once)
    found: Settings = suit(allowance, bench, settings)
    return found


def train(
    sources: dict[str, Divided],
    target: Divided,
    spec: InputSpec,
    folds: int,
    settings: Settings,
    machine: Machine,
    allowance: Allowance,
) -> tuple[list[Source], Ref, list[ArmRef]]:
    """Pretrain on every source, ask the advisor, and train the arms: those from nothing beside the
    pretraining, then the first seed of all others, then the other seeds of the promising ones.

    With a budget, `tasks.schedule.budgeted_training` says what is trained.

    When one training fails or the run is interrupted, the others stop at their next step.
    """
    at_once = machines.workers(settings.run, machine)
    with runners.start(settings.run, at_once) as runner:
        crew = Crew(runner, target, spec, folds, settings, machine, at_once)
        parts = _bodies(sources, settings)
        try:
            if allowance.limited:
                return within(allowance, crew, parts, target, settings)
            known = [*crew.pretrain(parts), *crew.unpack(settings.pretrained)]
            advised = advise(known, target, settings, machine)
            known = promising(known, advised, settings.adapt.best_sources)
            return known, advised, _arms(crew, known, target, settings)
        except BaseException:
            crew.stop.set()
            raise


def _arms(crew: Crew, known: list[Source], target: Divided, settings: Settings) -> list[ArmRef]:
    helped, stopped = plans(settings, target, known), list[ArmRef]()
    first, *more = settings.adapt.seeds
    if settings.adapt.finalists is not None:
        tried = crew.done(crew.adapt(helped, [first], known))
        helped, stopped = finalists(tried, settings)
    if crew.searches:
        searched = crew.search(plans(settings, target, []), []), crew.search(helped, known)
        own, helped = (crew.done(futures) for futures in searched)
        crew.alone = crew.adapt(own, [first, *more], [])
    arms = [*crew.alone, *crew.adapt(helped, [first, *more], known)]
    return [*crew.done(arms), *stopped]


def _bodies(sources: dict[str, Divided], settings: Settings) -> dict[str, dict[str, Divided]]:
    """What each body is trained on."""
    parts = {name: {name: divided} for name, divided in sources.items()}
    if settings.pretrain.jointly and len(sources) > 1:
        parts[" and ".join(sources)] = sources
    return parts
