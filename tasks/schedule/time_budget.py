"""The time that a run may take: what is left of it, and what was left out for want of it."""

import math
import time
from collections.abc import Iterable, Mapping
from statistics import median

from tasks.runtime import command_start
from tasks.runtime.artifacts import ArmRef
from tasks.runtime.formatting import duration
from tasks.runtime.step import Stopwatch, log
from tasks.schedule import cost_history
from tasks.schedule.cost_history import Ending, Kind
from transfer.arms.budget_policy import Cost
from transfer.arms.plan import Plan
from transfer.core.errors import CrosstrainError, SettingsError
from transfer.evaluation.report_schema import TimeBudget
from transfer.methods.lookup import known as kinds
from transfer.settings.project import Settings

LEAST = 4
"""Arms without which there is no decision: two seeds of the baseline and of one method."""
GRACE = 0.05
"""Share of the budget by which what no decision can do without may be late."""
USUAL = Ending(12.0, 0.3)
"""How a run ends where none has ended yet."""
AS_BEFORE = 0.8
"""What that end takes at least, as a multiple of the time from the run's start to its trainings:
both mostly wait for imports, for servers and for the disk."""
AS_STARTED = 1.5
"""The same, of the time from the command to the run's own beginning."""
SLOWEST = 3.0
"""How many times as long as it should a run's end is expected to take at most."""
UNKNOWN = 1.5
"""What an arm of a kind that was never trained here takes, as a multiple of one from scratch."""
FROZEN = 0.5
"""The same, of one that leaves a body of ours as it is."""


class Allowance:
    """The budget of one run, from its beginning on. A run without a budget has for ever."""

    def __init__(self, settings: Settings, promote: bool) -> None:
        self.began, self.promote = command_start.began(), promote
        self.seconds = settings.run.budget_seconds
        self._waits = promote and settings.promote.approval
        self.share = 1.0
        self.left_out: dict[str, str] = {}
        self._own = settings.backbone.name
        self._packages = set(settings.pretrained)
        self._costs: dict[Kind, Cost] = {}
        self._first: dict[Kind, Cost | None] = {}
        self._late: list[float] = []
        self._started = self.spent()
        self._ended = cost_history.endings(promote)
        self._ending = max(self._ended, key=lambda one: one.base, default=USUAL)
        self._trained = 0.0
        if self.limited and self.left(0) <= 0:
            raise SettingsError(
                f"run.budget is {self._given()}, and to evaluate, register and judge takes about "
                f"{duration(self._ending.at(0))} here; give more, nothing was done"
            )

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self.seconds is not None

    def spent(self) -> float:
        """Seconds since the run began."""
        return time.time() - self.began

    def until(self, arms: int, *, needed: bool = False) -> float:
        """When the last of so many arms has to end, in seconds since the epoch.

        Args:
            arms: in all; the end of the run takes longer with each.
            needed: no decision can do without it; it may be a little late.
        """
        seconds = math.inf if self.seconds is None else self.seconds
        return self.began + seconds * (1 + GRACE * needed) - self._slow() * self._ending.at(arms)

    @property
    def each(self) -> float:
        """Seconds by which every arm makes the run's end longer."""
        return self._slow() * self._ending.each

    def _slow(self) -> float:
        """How many times as long as expected arms took so far, 1 to 3: the end will, too."""
        return min(SLOWEST, max(1.0, median(self._late))) if self._late else 1.0

    def left(self, arms: int) -> float:
        """Seconds in which so many arms have to be trained."""
        return self.until(arms) - time.time()

    def arrive(self) -> None:
        """The trainings begin. Where no run has ended yet, this one's end is taken to be as slow
        as its beginning was."""
        if not self._ended:
            base = max(self._ending.base, AS_BEFORE * self.spent(), AS_STARTED * self._started)
            self._ending = Ending(base, self._ending.each)

    def learn(self, costs: Mapping[Kind, Cost]) -> None:
        """Take note of what arms cost, at the steps of this run or any other."""
        self._costs |= costs

    def reads(self, seconds: float) -> None:
        """Take note of what it takes to let an arm read the test split."""
        if not self._ended:
            self._ending = Ending(self._ending.base, max(self._ending.each, seconds))

    def observe(self, arm: ArmRef, steps: int) -> None:
        """Take note of what an arm has cost in this run."""
        if arm.ref.reused:
            return
        expected = self._first.setdefault(kind := self._kind(arm.plan), self._costs.get(kind))
        if expected is not None:
            self._late.append(arm.ref.seconds / max(expected.at(steps), 1e-9))
        self._costs[kind] = Cost(0.0, arm.ref.seconds / steps)

    def cost(self, plan: Plan, steps: int) -> float:
        """Seconds that an arm is expected to take."""
        known = self._costs.get(self._kind(plan))
        if known is not None:
            return known.at(steps)
        cheap = not kinds()[plan.method].trains_body and self._kind(plan)[1] == self._own
        return (FROZEN if cheap else UNKNOWN) * self._costs["scratch", self._own].at(steps)

    def _kind(self, plan: Plan) -> Kind:
        return plan.method, next((s for s in plan.sources if s in self._packages), self._own)

    def leave_out(self, names: Iterable[str], why: str) -> None:
        """Note what there was no time for."""
        if gone := list(names):
            log.info("left out, %s: %s", why, ", ".join(gone))
            self.left_out |= dict.fromkeys(gone, why)

    def refusal(self, needed: float) -> SettingsError:
        """Why nothing is trained: the least that is needed takes so many seconds."""
        least = self.spent() + needed + self._ending.at(LEAST)
        least = 10 * math.ceil(least / 10)
        return SettingsError(
            f"run.budget is {self._given()}, and a run takes at least about "
            f"{duration(least)} here: {duration(self.spent())} until something can be trained, "
            f"{duration(needed)} for one body, and two seeds from scratch and of one method, at an "
            f"eighth of their steps, and {duration(self._ending.at(LEAST))} to evaluate, register "
            "and judge; nothing was trained"
        )

    def too_late(self) -> CrosstrainError:
        """Why there is no challenger."""
        return CrosstrainError(
            f"the time of {self._given()} was up before there was one arm from "
            "scratch and one that uses a source; nothing was registered, and the champion stays. "
            "What was trained is kept: run it again to go on from here, or raise run.budget"
        )

    def _given(self) -> str:
        return duration(self.seconds or 0)

    def trained(self) -> None:
        """The last arm has ended."""
        self._trained = time.time()

    def close(self, watch: Stopwatch, arms: int) -> None:
        """Remember how long this run took to end, unless its evaluation was stored, or a person
        was waited for."""
        if "evaluate" not in watch.reused() and not self._waits:
            tail, reading = time.time() - self._trained, watch.seconds()["evaluate"]
            cost_history.note(Ending(tail - reading, reading / arms), self.promote)

    def told(self) -> TimeBudget | None:
        """What the report says of the budget; nothing where there is none."""
        if self.seconds is None:
            return None
        return TimeBudget(
            seconds=self.seconds,
            spent=round(self.spent(), 2),
            share=self.share,
            left_out=self.left_out,
        )
