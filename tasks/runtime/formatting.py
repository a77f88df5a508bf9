"""How figures are worded, the same in every report."""

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
    """Seconds as a person says them."""
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
    """What was promoted, in one sentence."""
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
    """What the time budget of a run changed, in sentences; none where there was no budget."""
    told = result.budget
    if told is None:
        return []
    given = f"the budget of {duration(told.seconds)}"
    if not told.ran_out:
        return [f"Everything was trained within {given}."]
    lines = [f"Time ran out: {given} was too short for everything."]
    if told.share < 1:
        lines.append(
            f"Every training, from scratch too, had {percent(told.share)} of the steps in the "
            "settings: figures are those of so short a training."
        )
    if len(result.seeds) == 1:
        lines.append("It rests on one seed: its intervals do not tell how seeds differ.")
    for why in dict.fromkeys(told.left_out.values()):
        names = [name for name, reason in told.left_out.items() if reason == why]
        lines.append(f"Left out, {why}: {listed(names)}.")
    return lines
