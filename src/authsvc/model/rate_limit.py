"""Rate limits: how many units a key, or all keys of an owner together, may take in a period.

A limit is that of GCRA, the generic cell rate algorithm: `limit` units may be taken at the same time, and
come back at an even rate, `limit` in each period.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from authsvc.model.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from authsvc.model.budget import Budget
    from authsvc.model.credit_account import CreditAccount

#: How many limits a key, or a policy, may have.
MAX_LIMITS = 5
# What a worker may borrow at a time of a limit, as a share of it.
_SLICES = 100
# What a message can hold.
_MAX_INT32 = 2**31 - 1
# Seconds, the longest first.
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile(r"([!-<>-~]{1,64}) ?= ?([0-9]{1,10}) ?/ ?([0-9]{1,7}) ?([smhd])", re.ASCII)


class RateLimit(NamedTuple):
    """`limit` units in each `period` of so many seconds."""

    name: str
    limit: int
    period: int

    @property
    def rate(self) -> float:
        """The units that come back in a second."""
        return self.limit / self.period

    @property
    def slice(self) -> int:
        """How many units a worker may borrow in advance; 1: as many as it needs now."""
        return max(1, self.limit // _SLICES)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the limit in a text such as `requests=100/1m`, with s, m, h or d; None for another form.

        Only the form is judged. The rules of the proto say which names, limits and periods there may be.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None or int(found[2]) > _MAX_INT32:
            return None
        name, limit, number, unit = found.groups()
        return cls(name, int(limit), int(number) * _UNITS[unit])

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _UNITS.items() if self.period % seconds == 0)
        return f"{self.name}={self.limit}/{self.period // _UNITS[unit]}{unit}"


class RateLimits:
    """The limits that hold for a credential: its own, those of its owner, and its credits.

    `budget_id` names whose units are taken from the limits of the key. A key that was rotated and its
    successor have the same one.
    """

    __slots__ = (
        "account",
        "account_epoch",
        "account_id",
        "budget_id",
        "budgets",
        "kept_answer",
        "of_key",
        "of_owner",
        "owner_id",
    )

    def __init__(
        self,
        budget_id: str,
        owner_id: str,
        of_key: Sequence[RateLimit],
        of_owner: Sequence[RateLimit],
        *,
        account_id: str = "",
        account_epoch: int = 0,
    ) -> None:
        """`account_id` is that of the credits, "" without any; `account_epoch` is when they were set last."""
        self.budget_id = budget_id
        self.owner_id = owner_id
        self.of_key = tuple(of_key)
        self.of_owner = tuple(of_owner)
        # What this worker knows and holds of each, first those of the key; empty until they are needed.
        self.budgets: tuple[Budget, ...] = ()
        self.account_id = account_id
        self.account_epoch = account_epoch
        # What this worker knows and holds of the credits; None until they are needed.
        self.account: CreditAccount | None = None
        # What a transport keeps, to tell what is left. It is dropped with them.
        self.kept_answer: Any = None


def checked_limits(limits: Sequence[tuple[str, int, float]], path: str) -> tuple[RateLimit, ...]:
    """Return limits, given as their names, units, and periods in seconds, sorted by name.

    Raises InvalidArgument, for the field `path`, for periods that are not whole, and for names that are used
    twice. The rules of the proto have checked the rest.
    """
    found: dict[str, RateLimit] = {}
    violations = []
    for number, (name, limit, period) in enumerate(limits):
        here = f"{path}[{number}]"
        if name in found:
            problem = f"is the name of another limit ({name}), too; give each limit a name of its own"
            violations.append(FieldViolation(f"{here}.name", "rate_limit.name", problem))
        if period != int(period):
            problem = "is not in whole seconds; use whole seconds, such as 60s"
            violations.append(FieldViolation(f"{here}.period", "rate_limit.period", problem))
        found[name] = RateLimit(name, limit, int(period))
    if violations:
        raise InvalidArgument(*violations)
    return tuple(found[name] for name in sorted(found))


def loosens(before: Sequence[RateLimit], after: Sequence[RateLimit]) -> bool:
    """Return whether more may be taken under some limits than under earlier ones.

    A limit is kept if there is one with its name that allows no more units at a time, and no higher rate.
    """
    later = {limit.name: limit for limit in after}
    return any(
        (new := later.get(old.name)) is None
        or new.limit > old.limit
        or new.limit * old.period > old.limit * new.period
        for old in before
    )
