"""The headers that tell a client of its rate limits, by draft-ietf-httpapi-ratelimit-headers-10.

They are structured fields (RFC 9651): `RateLimit-Policy: "requests";q=100;w=60`, and what is left of it,
`RateLimit: "requests";r=42;t=35`. Limits of the owner have `owner.` before their names.
"""

from authsvc.model.budget import Budget
from authsvc.model.rate_limit import RateLimits

#: For proxies that have to be told which headers of a check belong to the answer to the client.
NAMES = ("ratelimit-policy", "ratelimit")


def limit_headers(limits: RateLimits | None) -> list[tuple[str, str]]:
    """Return the headers; none without limits."""
    if limits is None or not limits.budgets:
        return []
    named = [(_name(budget), budget) for budget in limits.budgets]
    policies = [f"{name};q={budget.limit.limit};w={budget.limit.period}" for name, budget in named]
    states = [f"{name};r={budget.remaining};t={budget.reset}" for name, budget in named]
    return list(zip(NAMES, (", ".join(policies), ", ".join(states)), strict=True))


def _name(budget: Budget) -> str:
    # Names have no character that a string of a structured field would have to escape.
    return f'"owner.{budget.limit.name}"' if budget.of_owner else f'"{budget.limit.name}"'
