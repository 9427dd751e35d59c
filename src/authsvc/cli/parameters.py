"""Types of command-line options whose errors say what to write instead, and how defaults are shown."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter, Token

from authsvc.config.duration import parse_duration


def _duration(type_: Any, tokens: Sequence[Token]) -> Any:
    text = tokens[0].value
    try:
        length = parse_duration(text)
    except ValueError:
        length = None
    # A bare number is seconds in a setting. Here it is more likely meant to be days.
    if length is None or (length and text[-1].isdigit()):
        raise ValueError(f'"{text}" is not valid; use a number with a unit, for instance 90d, 12h or 30m')
    return length


def _time(type_: Any, tokens: Sequence[Token]) -> Any:
    try:
        return cyclopts.convert(datetime, tokens)
    except cyclopts.CoercionError:
        raise ValueError(
            f'"{tokens[0].value}" is not valid; use a date or time, for instance 2027-01-31 or '
            "2027-01-31T12:00:00"
        ) from None


Duration = Annotated[timedelta | None, Parameter(converter=_duration, metavar="DURATION")]
Time = Annotated[datetime | None, Parameter(converter=_time, metavar="TIME")]


def shown_default(value: object) -> str | None:
    """Return the default of an option as its help shows it: nothing for an option that is off or empty."""
    return None if value is None or value is False or value in ("", (), []) else str(value)
