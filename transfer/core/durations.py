"""Lengths of time as a person types them: 90s, 5m, 2h, 1h30m."""

import re

PATTERN = r"^(?=[0-9])([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
UNITS = (3600, 60, 1)


def seconds(text: str) -> int:
    """Seconds of a time such as ``1h30m``: hours, minutes and seconds, in this order.

    Raises:
        ValueError: it is no such time, or none at all.
    """
    found = re.fullmatch(PATTERN, text)
    parts = found.groups() if found else ()
    told = sum(int(part[:-1]) * unit for part, unit in zip(parts, UNITS, strict=False) if part)
    if not told:
        raise ValueError(f"{text!r} is no time; expected one such as 90s, 5m, 2h or 1h30m")
    return told
