"""Durations as a person types them: 90s, 5m, 2h, 1h30m."""

import re

PATTERN = r"^(?=[0-9])([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
UNITS = (3600, 60, 1)


def seconds(text: str) -> int:
    """Convert a duration such as ``1h30m`` (hours, minutes, seconds, in this order) to seconds.

    Raises:
        ValueError: the text is not such a duration, or the duration is 0.
    """
    match = re.fullmatch(PATTERN, text)
    parts = match.groups() if match else ()
    total = sum(int(part[:-1]) * unit for part, unit in zip(parts, UNITS, strict=False) if part)
    if not total:
        raise ValueError(f"found the duration {text!r}; expected one such as 90s, 5m, 2h or 1h30m")
    return total
