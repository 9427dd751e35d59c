"""Lengths of time as operators write them: `30s`, `5m`, `12h`, `30d`, `500ms`, `1h30m`.

The units are those of Prometheus. A number without a unit is seconds.
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_UNITS = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_SHOWN_UNITS = ("d", "h", "m", "s", "ms")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[ywdhms])")
_DURATION = re.compile(rf"(-?)((?:{_PART.pattern})+)")
_SECONDS = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_REMEDY = (
    "use a number and its unit, for instance 500ms, 30s, 5m, 12h or 30d; a number without a unit is seconds"
)


def parse_duration(text: str) -> timedelta:
    """Return the length that a text says; raise ValueError with the remedy.

    What is longer than a timedelta can be is `timedelta.max`.
    """
    text = text.strip()
    try:
        if _SECONDS.fullmatch(text):
            return timedelta(seconds=float(text))
        if match := _DURATION.fullmatch(text):
            length = sum(
                (float(number) * _UNITS[unit] for number, unit in _PART.findall(match[2])), timedelta()
            )
            return -length if match[1] else length
    except OverflowError:
        return timedelta.min if text.startswith("-") else timedelta.max
    raise ValueError(_REMEDY)


def format_duration(length: timedelta) -> str:
    """Return a length in the largest unit that gives a whole number, as `parse_duration` reads it."""
    if not length:
        return "0"
    for unit in _SHOWN_UNITS:
        if not length % _UNITS[unit]:
            return f"{length // _UNITS[unit]}{unit}"
    return f"{length.total_seconds():g}s"


def _read(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_read)]
"""The type of every setting that is a length of time. The program may give a number of seconds."""


def between(shortest: timedelta, longest: timedelta, *, or_zero: str = "") -> AfterValidator:
    """Return the bounds of a setting; `or_zero` says what 0 means where it is allowed, too."""
    remedy = f"use {format_duration(shortest)} to {format_duration(longest)}"
    if or_zero:
        remedy += f", or 0 {or_zero}"

    def check(length: timedelta) -> timedelta:
        if shortest <= length <= longest or (or_zero and not length):
            return length
        raise ValueError(remedy)

    return AfterValidator(check)
