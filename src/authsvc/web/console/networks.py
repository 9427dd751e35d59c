"""Allowed networks in a form: a text with one network in each line."""

from collections.abc import Sequence
from typing import NamedTuple

from authsvc.model.allowed_networks import MAX_NETWORKS
from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

FIELD = "allowed_networks"


class Networks(NamedTuple):
    """What is typed. Empty lines are none."""

    text: str = ""

    @property
    def values(self) -> list[str]:
        """The networks as they are typed."""
        return [line for _, line in self._lines()]

    def errors(self, problem: Problem | None) -> list[tuple[int, str]]:
        """Return the numbers of lines that are wrong, and what is wrong with them.

        No line is told of beyond the most that there may be.
        """
        if problem is None:
            return []
        told = ((line, problem.entry(FIELD, index)) for index, (line, _) in enumerate(self._lines()))
        return [(line, wrong) for line, wrong in told if wrong][:MAX_NETWORKS]

    def _lines(self) -> list[tuple[int, str]]:
        lines = enumerate(map(str.strip, self.text.split("\n")), start=1)
        return [(number, line) for number, line in lines if line]


def networks_of_form(form: Form) -> Networks:
    """Return what was typed."""
    # Not without the empty lines at its beginning, which count.
    return Networks(next(iter(form.all(FIELD)), ""))


def networks_of(values: Sequence[str]) -> Networks:
    """Return networks as a form shows them."""
    return Networks("\n".join(values))
