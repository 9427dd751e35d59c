"""A length of time in a form: a number and a unit. An empty number is no length."""

from decimal import Decimal
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

#: Seconds, by the value of the choice.
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "year": 365 * 86400}
_USUAL = "day"
# Far beyond what RPCs take, so that these say what the most is.
_MAX_SECONDS = 10**10
_MAX_DIGITS = 20


class Length(NamedTuple):
    """What is typed."""

    number: str = ""
    unit: str = _USUAL

    def duration(self, path: str) -> Duration:
        """Return the length; 0 if nothing is typed. Raises Problem for what is not a number above 0."""
        whole, _, part = self.number.partition(".")
        is_number = all(digits.isascii() and digits.isdigit() for digits in (whole, part or "0"))
        if not self.number:
            return Duration()
        if not is_number or len(self.number) > _MAX_DIGITS or self.unit not in UNITS:
            raise _problem(path)
        nanos = min(Decimal(self.number) * UNITS[self.unit], Decimal(_MAX_SECONDS)) * 10**9
        if nanos < 1:
            raise _problem(path)
        return Duration(seconds=int(nanos) // 10**9, nanos=int(nanos) % 10**9)


def _problem(path: str) -> Problem:
    return Problem(grpc.StatusCode.INVALID_ARGUMENT, "NO_LENGTH", fields={path: ""})


def length_of_form(form: Form, name: str) -> Length:
    """Return what was typed in the fields `name` and `name_unit`."""
    return Length(form(name), form(f"{name}_unit"))


def length_of(duration: Duration) -> Length:
    """Return a length as a form shows it, in the largest unit without a rest."""
    nanos = duration.seconds * 10**9 + duration.nanos
    if not nanos:
        return Length()
    for unit, seconds in reversed(UNITS.items()):
        if not nanos % (seconds * 10**9):
            return Length(str(nanos // (seconds * 10**9)), unit)
    return Length(f"{Decimal(nanos) / 10**9:f}", "second")
