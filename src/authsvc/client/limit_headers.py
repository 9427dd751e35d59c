"""The headers that tell a client of its rate limits, by draft-ietf-httpapi-ratelimit-headers-10.

They have the form of `authsvc.gateway.limit_headers`, which this package does not import.
"""

from collections.abc import Sequence

from authsvc.client.verdict import RateLimit


def limit_headers(limits: Sequence[RateLimit]) -> list[tuple[str, str]]:
    """Return the headers; none without limits."""
    if not limits:
        return []
    named = [(f'"owner.{each.name}"' if each.of_owner else f'"{each.name}"', each) for each in limits]
    return [
        ("ratelimit-policy", ", ".join(f"{name};q={each.limit};w={each.period}" for name, each in named)),
        ("ratelimit", ", ".join(f"{name};r={each.remaining};t={each.reset}" for name, each in named)),
    ]
