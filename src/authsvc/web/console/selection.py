"""A choice in a form between all there are, and some of them that are ticked or typed."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import grpc

from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

_ALL, _SOME = "all", "some"


class Selection(NamedTuple):
    """What is chosen: `which` is `all` or `some`; `other` has names that are typed, with spaces between."""

    which: str = ""
    ticked: Sequence[str] = ()
    other: str = ""

    @property
    def names(self) -> list[str]:
        """What is ticked or typed, each once, sorted."""
        return sorted({*self.ticked, *self.other.replace(",", " ").split()})

    def values(self, before: Collection[str], path: str) -> list[str]:
        """Return the names, none for all.

        Raises Problem for what is no clear choice. Where `before` is ticked still, all are meant; other ticks
        would be lost.
        """
        if self.which == _SOME and self.names:
            return self.names
        if self.which == _ALL and self.names in ([], sorted(before)):
            return []
        reason = {_SOME: "NONE_TICKED", _ALL: "ALL_OR_TICKED"}.get(self.which, "NOT_CHOSEN")
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, reason, fields={path: ""})


def selection_of_form(form: Form, name: str) -> Selection:
    """Return what was chosen in the fields `name`, `name_which` and `name_other`."""
    return Selection(form(f"{name}_which"), form.all(name), form(f"{name}_other"))


def selection_of(names: Collection[str], offered: Collection[str]) -> Selection:
    """Return names as a form shows them; those that are not offered are in the field for others."""
    other = " ".join(name for name in names if name not in offered)
    return Selection(_SOME if names else _ALL, list(names), other)
