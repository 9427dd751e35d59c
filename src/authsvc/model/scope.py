"""Scopes: what a credential may do.

`full_access` grants everything. No other scope implies another: `x:write` does
not grant `x:read` (rule 22).
"""

import re
from collections.abc import Collection, Iterable

FULL_ACCESS = "full_access"

_FORM = re.compile(r"[a-z0-9_.-]+(:[a-z0-9_.-]+)*")
_LONGEST = 64

# What authsvc itself asks of its callers; the RPCs name theirs in the protos.
OWN_SCOPES = frozenset(
    {
        FULL_ACCESS,
        "keys:verify",
        "keys:read",
        "keys:write",
        "sessions:verify",
        "sessions:read",
        "sessions:write",
        "policies:read",
        "policies:write",
        "replicas:read",
        "audit_logs:read",
    }
)


def is_scope(text: str) -> bool:
    """Say whether this has the form of a scope."""
    return len(text) <= _LONGEST and _FORM.fullmatch(text) is not None


def missing(granted: Collection[str], required: Iterable[str]) -> list[str]:
    """Return the required scopes that are not granted, in order."""
    if FULL_ACCESS in granted:
        return []
    return [scope for scope in required if scope not in granted]
