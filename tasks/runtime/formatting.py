"""Formats numbers and outcomes as text, the same in every report."""

from collections.abc import Sequence

from transfer.evaluation.report_schema import Result


def percent(share: float | None, unit: str = "%") -> str:
    """A share in 0..1 as per cent with one digit; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}{unit}"


def between(low: float, high: float) -> str:
    """An interval of shares, in per cent."""
    return f"[{percent(low, '')}, {percent(high, '')}]"


def points(difference: float) -> str:
    """A difference of shares as signed percentage points with one digit."""
    return f"{100 * difference:+z.1f}".replace("-", "\u2212")


def duration(seconds: float) -> str:
    """Seconds as text for people: milliseconds, seconds, or minutes and seconds."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def count(number: int) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def listed(names: Sequence[str], shown: int = 30) -> str:
    """How many names there are, and the first of them."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} ({', '.join(names[:shown])}{more})"


def outcome(result: Result) -> str:
    """Whether the model was promoted, in one sentence."""
    if result.version is None:
        model = f"no version of {result.model} was registered"
    else:
        model = f"{result.model} version {result.version}"
    if result.promoted:
        return f"Promoted: {model} is the champion."
    if result.version is None:
        return f"Not promoted: {model} for this run."
    return f"Not promoted: {model} is registered, and is not the champion."


def budget(result: Result) -> list[str]:
    """What the time budget of a run changed, in sentences; no sentence without a budget."""
    spending = result.budget
    if spending is None:
        return []
    limit = f"the budget of {duration(spending.seconds)}"
    if not spending.ran_out:
        return [f"Everything was trained within {limit}."]
    lines = [f"Time ran out: {limit} was too short for everything."]
    if spending.share < 1:
        lines.append(
            f"Every training, also from scratch, had {percent(spending.share)} of the steps in "
            "the settings: the figures are those of this shorter training."
        )
    if len(result.seeds) == 1:
        lines.append("The result is from one seed: its intervals do not show how seeds differ.")
    for reason in dict.fromkeys(spending.left_out.values()):
        names = [name for name, arm_reason in spending.left_out.items() if arm_reason == reason]
        lines.append(f"Left out, {reason}: {listed(names)}.")
    return lines
