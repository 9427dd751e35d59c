"""Rate limits in a form: a text with one limit in each line, such as `requests=100/1m`."""

from collections.abc import Iterable
from typing import NamedTuple

import grpc

from authsvc.model.rate_limit import MAX_LIMITS, RateLimit
from authsvc.rpc.rate_limits import limit_messages, shown_limits
from authsvc.v1 import resources_pb2 as pb
from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

FIELD = "rate_limits"


class Limits(NamedTuple):
    """What is typed. Empty lines are none."""

    text: str = ""

    @property
    def messages(self) -> list[pb.RateLimit]:
        """The limits in the order of the lines. Raises Problem for lines that are not limits."""
        read = [RateLimit.parse(line) for _, line in self._lines()]
        wrong = {f"{FIELD}[{index}]": "" for index, limit in enumerate(read) if limit is None}
        if wrong:
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "RATE_LIMIT", fields=wrong)
        return limit_messages(limit for limit in read if limit is not None)

    def errors(self, problem: Problem | None) -> list[tuple[int, str]]:
        """Return the numbers of lines that are wrong, and what is wrong with them; "" for no limit at all.

        No line is told of beyond the most that there may be.
        """
        if problem is None:
            return []
        told = [
            (number, problem.entry(FIELD, index), RateLimit.parse(line) is None)
            for index, (number, line) in enumerate(self._lines())
        ]
        return [(number, wrong) for number, wrong, is_none in told if wrong or is_none][:MAX_LIMITS]

    def _lines(self) -> list[tuple[int, str]]:
        lines = enumerate(map(str.strip, self.text.split("\n")), start=1)
        return [(number, line) for number, line in lines if line]


def limits_of_form(form: Form) -> Limits:
    """Return what was typed."""
    return Limits(next(iter(form.all(FIELD)), ""))


def limits_of(messages: Iterable[pb.RateLimit]) -> Limits:
    """Return limits as a form shows them."""
    return Limits("\n".join(shown_limits(messages)))


def same_limits(one: Iterable[pb.RateLimit], other: Iterable[pb.RateLimit]) -> bool:
    """Return whether limits are the same, in any order: the service sorts them by name."""
    return sorted(one, key=_name) == sorted(other, key=_name)


def _name(limit: pb.RateLimit) -> str:
    return limit.name
