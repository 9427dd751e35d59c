"""Settings of the sign-in to the console by OpenID Connect."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from authsvc.config.mail import check_browser_url
from authsvc.config.scopes import checked_scope
from authsvc.model.text import fault, kept

# The issuer is an annotation of sessions.
_MAX_ISSUER, _MAX_LABEL, _MAX_ROLE, _MAX_ROLES, _MAX_SCOPES = 250, 60, 200, 100, 64
_ROLES_REMEDY = 'use JSON like {"admins": ["full_access"], "support": ["keys:read", "sessions:read"]}'


def check_issuer(value: str) -> str:
    """Return the URL of an issuer, or an empty one; raise ValueError."""
    check_browser_url(value)
    if "?" in value or "#" in value:
        raise ValueError("has a query or a fragment, which issuers do not have")
    if len(value) > _MAX_ISSUER:
        raise ValueError(f"has {len(value)} characters; use at most {_MAX_ISSUER}")
    return value


def _read_roles(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        roles = json.loads(value)
    except ValueError:
        raise ValueError(f"is not JSON; {_ROLES_REMEDY}") from None
    if not isinstance(roles, dict) or not all(isinstance(scopes, list) for scopes in roles.values()):
        raise ValueError(f"is not an object of lists; {_ROLES_REMEDY}")
    if len(roles) > _MAX_ROLES:
        raise ValueError(f"has {len(roles)} roles; use at most {_MAX_ROLES}")
    return {_checked_role(role): _checked_scopes(role, scopes) for role, scopes in roles.items()}


def _checked_role(role: str) -> str:
    if not role or len(role) > _MAX_ROLE or fault(role):
        raise ValueError(f"has a role that is not a text of 1 to {_MAX_ROLE} visible characters")
    return role


def _checked_scopes(role: str, scopes: list[object]) -> tuple[str, ...]:
    if not 1 <= len(scopes) <= _MAX_SCOPES:
        raise ValueError(f"gives the role {role!r} {len(scopes)} scopes; use 1 to {_MAX_SCOPES}")
    return tuple(sorted(set(map(checked_scope, scopes))))


def _read_asked(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _check_asked(value: tuple[str, ...]) -> tuple[str, ...]:
    if "openid" not in value:
        raise ValueError("has no openid, without which a provider sends no ID token")
    # The characters of a scope (RFC 6749, 3.3).
    if not all(scope.isascii() and scope.isprintable() and not set(scope) & {'"', "\\"} for scope in value):
        raise ValueError("has characters that scopes do not have; use a form like openid,profile,email")
    return value


def _check_label(value: str) -> str:
    if problem := fault(value):
        raise ValueError(problem)
    if len(value) > _MAX_LABEL:
        raise ValueError(f"has {len(value)} characters; use at most {_MAX_LABEL}")
    return value


Roles = Annotated[dict[str, tuple[str, ...]], NoDecode, BeforeValidator(_read_roles)]
"""The scopes of each role."""


class OidcSettings(BaseSettings):
    """A part of `Settings`."""

    console_oidc_issuer: Annotated[str, AfterValidator(check_issuer)] = Field(
        "",
        description="issuer of the OpenID provider that staff sign in to the console with, https://…; "
        "empty: no sign-in by OpenID Connect",
    )
    console_oidc_client_id: str = Field(
        "", max_length=500, description="client ID of the console at the provider"
    )
    console_oidc_client_secret_file: Path | None = Field(
        None, description="file of its client secret; empty: a public client"
    )
    console_oidc_key_file: Path | None = Field(
        None, description="file of the API key that opens the sessions of staff"
    )
    console_oidc_roles: Roles = Field(
        {}, description='scopes of staff by their roles, as JSON: {"support": ["keys:read"]}'
    )
    console_oidc_roles_claim: str = Field(
        "groups",
        min_length=1,
        max_length=200,
        description="claim that has the roles, for instance realm_access.roles",
    )
    console_oidc_scopes: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_read_asked), AfterValidator(_check_asked)
    ] = Field(
        ("openid", "profile", "email"), description="comma-separated scopes that the provider is asked for"
    )
    console_oidc_name: Annotated[str, AfterValidator(kept), AfterValidator(_check_label)] = Field(
        "", description="name of the provider on the button of the sign-in; default: the host of the issuer"
    )
