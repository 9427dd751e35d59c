"""Rate limits as messages, and what is left of them and of credits."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import ceil, inf
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from authsvc.model.budget import Budget
from authsvc.model.rate_limit import RateLimit, RateLimits, checked_limits
from authsvc.v1 import key_service_pb2 as service_pb
from authsvc.v1 import resources_pb2 as pb

_MICROSECONDS = 1_000_000
# An answer with the states of all limits alone, and each budget with its state and the reset of that.
_Kept: TypeAlias = tuple[service_pb.VerifyKeyResponse, Sequence[tuple[Budget, pb.RateLimitState, Duration]]]


def limits_of(messages: Sequence[pb.RateLimit], path: str) -> tuple[RateLimit, ...]:
    """Return the limits in a validated field of a request. Raises InvalidArgument for the field `path`."""
    return checked_limits(
        [(each.name, each.limit, each.period.ToTimedelta().total_seconds()) for each in messages], path
    )


def limit_messages(limits: Iterable[RateLimit]) -> list[pb.RateLimit]:
    """Return limits as messages."""
    return [_limit_message(limit) for limit in limits]


def shown_limits(messages: Iterable[pb.RateLimit]) -> list[str]:
    """Return limits as people write them: `requests=100/1m`."""
    return [str(RateLimit(each.name, each.limit, each.period.seconds)) for each in messages]


def set_limits(
    message: service_pb.VerifyKeyResponse | service_pb.VerifyTokenResponse,
    limits: RateLimits,
    retry_after: float,
) -> None:
    """Add what is left of each limit and of credits to an answer, and how long to wait, if that helps."""
    message.rate_limits.extend(map(_state, limits.budgets))
    if limits.account is not None and (remaining := limits.account.remaining) is not None:
        message.credits_remaining = remaining
    if 0 < retry_after < inf:
        message.retry_after.FromTimedelta(timedelta(microseconds=ceil(retry_after * _MICROSECONDS)))


def states_bytes(limits: RateLimits) -> bytes:
    """Return the part of a serialized answer of VerifyKey that says what is left. The hot path.

    To make messages costs more than to set their fields, so they are kept.
    """
    kept = limits.kept_answer
    if kept is None:
        kept = limits.kept_answer = _kept(limits)
    answer, parts = kept
    for budget, state, reset in parts:
        # As `remaining` and `reset` of Budget, at half their cost.
        left, size = budget.held + budget.free, budget.size
        if left > size:
            left = size
        state.remaining = left
        reset.seconds = -((left - size) * budget.limit.period // size)
    if (account := limits.account) is not None:
        answer.credits_remaining = account.held + account.left
    data: bytes = answer.SerializeToString()
    return data


def _kept(limits: RateLimits) -> _Kept:
    answer = service_pb.VerifyKeyResponse(rate_limits=map(_state, limits.budgets))
    parts = zip(limits.budgets, answer.rate_limits, strict=True)
    return answer, [(budget, state, state.reset) for budget, state in parts]


def _state(budget: Budget) -> pb.RateLimitState:
    limit = budget.limit
    state = pb.RateLimitState(
        name=limit.name, limit=limit.limit, remaining=budget.remaining, of_owner=budget.of_owner
    )
    state.period.seconds = limit.period
    state.reset.seconds = budget.reset
    return state


def _limit_message(limit: RateLimit) -> pb.RateLimit:
    message = pb.RateLimit(name=limit.name, limit=limit.limit)
    message.period.seconds = limit.period
    return message
