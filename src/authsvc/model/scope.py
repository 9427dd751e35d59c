"""Scopes: what a credential may do.

`full_access` grants everything. No other scope implies another: `x:write` does
not grant `x:read` (rule 22).
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

FULL_ACCESS = "full_access"
MANAGES_KEYS = "keys:write"
MAX_LENGTH = 64
_FORM = re.compile(r"[a-z0-9_.-]+(:[a-z0-9_.-]+)*")

# The scopes that the RPCs of authsvc require; the protos say which one each RPC requires.
OWN_SCOPES = {
    FULL_ACCESS: "Do everything that any scope allows",
    "keys:verify": "Verify API keys and tokens",
    "keys:read": "Look at API keys, and list the scopes that they may have",
    "keys:self": "Revoke and rotate the key itself, and nothing else",
    MANAGES_KEYS: "Create, change, rotate, revoke and delete API keys",
    "tokens:derive": "Derive short-lived tokens from itself",
    "sessions:verify": "Verify session tokens",
    "sessions:read": "Look at sessions, the devices that users are signed in on",
    "sessions:write": "Open sessions and end them",
    "policies:read": "Look at the policies of owners",
    "policies:write": "Change the policies of owners",
    "audit_logs:read": "Look at the audit events",
    "webhooks:read": "Look at webhooks and their deliveries",
    "webhooks:write": "Register webhooks, which are told what happens to keys, sessions and policies",
    "replicas:read": "Look at the workers of all replicas",
    "holders:follow": "Verify in its own process, by following the changes of credentials",
}


class Scope(NamedTuple):
    """A scope that credentials may have, with a description for people."""

    name: str
    description: str = ""


def is_scope(name: str) -> bool:
    """Return whether this has the form of a scope, for instance `orders:read`."""
    return len(name) <= MAX_LENGTH and _FORM.fullmatch(name) is not None


def has_all(granted: Collection[str], required: Iterable[str]) -> bool:
    """Return whether all required scopes are granted."""
    for scope in required:  # a generator would cost more than all the looks
        if scope not in granted:
            return FULL_ACCESS in granted
    return True


def has_any(granted: Collection[str], wanted: Iterable[str]) -> bool:
    """Return whether one of these scopes is granted."""
    return FULL_ACCESS in granted or any(scope in granted for scope in wanted)


def missing(granted: Collection[str], required: Iterable[str]) -> list[str]:
    """Return the required scopes that are not granted, in order."""
    if FULL_ACCESS in granted:
        return []
    return [scope for scope in required if scope not in granted]
