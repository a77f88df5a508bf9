"""Training: pretrain on every source, plan the arms and train them, several at once."""

from tasks.runtime.artifacts import ArmRef, TrainedArms
from tasks.runtime.run_context import RunContext
from tasks.schedule import plan as planning
from tasks.schedule.budgeted_training import train_within
from tasks.schedule.submitter import ArmSubmitter
from tasks.schedule.time_budget import fit_steps
from tasks.schedule.training_plan import TrainingPlan
from tasks.training import runners
from tasks.training.advise import advise, promising


def plan_training(context: RunContext, promote: bool) -> TrainingPlan:
    """Refuse what could not be trained, and plan the rest: with all steps of the settings, or, in
    a run with a time budget, with as many as fit.

    Args:
        context: what all trainings of the run share.
        promote: whether the run ends with a decision about the registry, which takes time.

    Raises:
        DataRefusedError: no item of the target is labelled, and no source has all its classes.
        SettingsError: a package that is asked for is not installed, or the time budget is too
            short for any decision.
    """
    planning.check(context.settings, context.sources, context.target)
    alone = tuple(planning.plans(context.settings, context.target, []))
    if context.time_limit.seconds is None:
        return TrainingPlan(context, alone)
    plan: TrainingPlan = fit_steps(context, alone, promote)
    return plan


def train(plan: TrainingPlan) -> TrainedArms:
    """Pretrain on every source, rank the sources, and train the arms: all that the settings
    ask for, or, in a run with a time budget, as many as there is time for.

    When one training fails or the run is interrupted, the others stop at their next step.
    """
    context = plan.context
    with runners.start(context.settings.run, context.arms_at_once) as runner:
        submitter = ArmSubmitter(runner, context)
        try:
            if plan.costs is not None:
                return train_within(plan, plan.costs, submitter)
            return _train_all(plan, submitter)
        except BaseException:
            runner.stop.set()
            raise


def _train_all(plan: TrainingPlan, submitter: ArmSubmitter) -> TrainedArms:
    """Arms that use no source are trained beside the pretraining, unless they wait for a search;
    then the first seed of the others, and the further seeds of those that go on."""
    context, settings = plan.context, plan.settings
    seeds, alone = settings.adapt.seeds, [] if submitter.searches else plan.alone
    beside = min(len(alone) * len(seeds), context.arms_at_once - 1)
    pretrainings = [submitter.pretrain(name, beside) for name in context.pretrainings]
    arms = submitter.arms(alone, seeds)
    sources = [*submitter.done(pretrainings), *submitter.unpack()]
    advice = advise(sources, context.target, settings, context.machine)
    sources = promising(sources, advice, settings.adapt.best_sources)
    helped = planning.plans(settings, context.target, sources)
    stopped: list[ArmRef] = []
    if settings.adapt.finalists is not None:
        tried = submitter.done(submitter.arms(helped, seeds[:1], sources))
        helped, stopped = planning.finalists(tried, settings)
    if submitter.searches:
        searches = submitter.search(plan.alone), submitter.search(helped, sources)
        tuned, helped = (submitter.done(futures) for futures in searches)
        arms = submitter.arms(tuned, seeds)
    arms += submitter.arms(helped, seeds, sources)
    return TrainedArms(sources, advice, [*submitter.done(arms), *stopped])
