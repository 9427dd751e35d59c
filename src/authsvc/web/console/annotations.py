"""Annotations in a form: rows of a name and a value, with empty rows for new ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grpc

from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

#: The field of forms whose presence says that annotations were shown, and the button for more rows.
SHOWN, MORE = "annotations", "more_annotations"
_MAX = 32
_EMPTY = ("", "")
# Empty rows of a form, and those that the button adds.
_FREE, _MORE_ROWS = 2, 4


class Annotations(NamedTuple):
    """The annotations as they are typed. A row without a name and a value is none."""

    rows: Sequence[tuple[str, str]] = (_EMPTY,) * _FREE

    @property
    def has_room(self) -> bool:
        """Whether more rows may be of use."""
        return len(self.rows) < _MAX

    @property
    def is_empty(self) -> bool:
        """Whether nothing is typed."""
        return not any(name or value for name, value in self.rows)

    def values(self) -> dict[str, str]:
        """Return the values by their names. Raises Problem for a value without a name, or a repeated name."""
        values: dict[str, str] = {}
        for name, value in self.rows:
            if not name and value:
                raise _problem("ANNOTATION_UNNAMED", value)
            if name in values:
                raise _problem("ANNOTATION_REPEATED", name)
            if name:
                values[name] = value
        return values

    def errors(self, problem: Problem | None) -> list[str]:
        """Return what is wrong with each row, as far as the problem says so of its name."""
        return [problem.entry("annotations", name) if problem and name else "" for name, _ in self.rows]


def _problem(reason: str, about: str) -> Problem:
    return Problem(
        grpc.StatusCode.INVALID_ARGUMENT, reason, metadata={"about": about}, fields={"annotations": ""}
    )


def annotations_of_form(form: Form) -> Annotations:
    """Return what was typed, with more empty rows if they were asked for."""
    typed = zip(form.all("annotation_name"), form.all("annotation_value"), strict=False)
    rows = [(name.strip(), value.strip()) for name, value in typed]
    more = _MORE_ROWS if MORE in form else 0
    return Annotations([*rows, *[_EMPTY] * min(more, max(0, _MAX - len(rows)))])


def annotations_of(values: Mapping[str, str]) -> Annotations:
    """Return annotations as a form shows them, by name."""
    free = min(_FREE, max(0, _MAX - len(values)))
    return Annotations([*sorted(values.items()), *[_EMPTY] * free])
