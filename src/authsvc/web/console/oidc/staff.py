"""Who has signed in, by the claims of the provider: the scopes that they get, and how their session tells."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from authsvc.model.key_string import redact
from authsvc.model.session import ISSUER, SIGNED_IN_AS, SUBJECT
from authsvc.model.text import cleaned, kept
from authsvc.web.console.oidc.client import OidcClient

# The most characters of the value of an annotation.
_MAX_VALUE = 256
_NAMES = ("email", "preferred_username", "name")


class Staff(NamedTuple):
    """A member of staff. Without scopes they may not sign in."""

    scopes: tuple[str, ...]
    annotations: Mapping[str, str]


def staff_of(claims: Mapping[str, Any], client: OidcClient) -> Staff:
    """Return who the claims are about."""
    roles = roles_in(claims, client.roles_claim) or []
    scopes = {scope for role in roles for scope in client.roles.get(role, ())}
    subject = _text(claims["sub"])
    annotations = {
        SIGNED_IN_AS: next(filter(None, (_text(_named(claims, name)) for name in _NAMES)), subject),
        ISSUER: client.issuer,
        SUBJECT: subject,
    }
    return Staff(tuple(sorted(scopes)), {name: value for name, value in annotations.items() if value})


def roles_in(claims: Mapping[str, Any], name: str) -> list[str] | None:
    """Return the roles of a claim, which may be one text; None if there is no such claim.

    A name with dots is that of a claim, or else leads into claims that are objects.
    """
    found: Any = claims
    for part in [name] if name in claims else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None:
        return None
    values = [found] if isinstance(found, str) else found
    return [role for role in values if isinstance(role, str)] if isinstance(values, list) else []


def _named(claims: Mapping[str, Any], name: str) -> object:
    # An address that nobody has verified is what somebody claims to be.
    if name == "email" and claims.get("email_verified", True) not in (True, "true"):
        return None
    return claims.get(name)


def _text(value: object) -> str:
    """Return a text of the provider as annotations may have it."""
    if not isinstance(value, str):
        return ""
    return kept(cleaned(redact(kept(value[: 4 * _MAX_VALUE]))[:_MAX_VALUE]))
