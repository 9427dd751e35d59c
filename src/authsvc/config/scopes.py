"""Settings that are scopes: the operator's catalogue, and lists of names."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_settings import NoDecode

from authsvc.config.comma_separated import split
from authsvc.model.scope import OWN_SCOPES, Scope, is_scope
from authsvc.model.text import fault, kept

_MAX_SCOPES, _MAX_DESCRIPTION_LENGTH = 1000, 500


def checked_scope(value: object) -> str:
    """Return the name of a scope; raise ValueError with the remedy when it is not a valid one."""
    if not isinstance(value, str) or not is_scope(value):
        raise ValueError(f"{value!r} is not a valid scope; use a form like orders:read")
    return value


def _read_catalogue(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text == "*":
        return None
    found: dict[str, Scope] = {}
    for item in text.split("\n" if "\n" in text else ","):
        name, equals, description = (part.strip() for part in item.partition("="))
        if not name and not equals:
            continue
        if not is_scope(name):
            hint = "; if descriptions have commas, write one scope per line" if "=" in value else ""
            raise ValueError(f"{name!r} is not a valid scope; use a form like orders:read{hint}")
        if name in found:
            raise ValueError(f"{name} is listed twice; remove one of them")
        description = kept(description)
        if problem := fault(description):
            raise ValueError(f"the description of {name} {problem}")
        if len(description) > _MAX_DESCRIPTION_LENGTH:
            problem = f"has {len(description)} characters; use at most {_MAX_DESCRIPTION_LENGTH}"
            raise ValueError(f"the description of {name} {problem}")
        found[name] = Scope(name, description)
    if len(found) > _MAX_SCOPES:
        raise ValueError(f"there are {len(found)} scopes; use at most {_MAX_SCOPES}, or * for any")
    return tuple(found.values())


def _read_names(value: object) -> object:
    return tuple(map(checked_scope, split(value))) if isinstance(value, str) else value


def _check_known(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    catalogue = info.data.get("scopes")
    known = value if catalogue is None else {*OWN_SCOPES, *(scope.name for scope in catalogue)}
    if unknown := [scope for scope in value if scope not in known]:
        raise ValueError(f"{', '.join(unknown)} not in AUTHSVC_SCOPES; add it there, or remove it here")
    return tuple(sorted(set(value)))


Catalogue = Annotated[tuple[Scope, ...] | None, NoDecode, BeforeValidator(_read_catalogue)]
"""Scopes with their descriptions, comma-separated or one per line; None: any scope (`*`)."""

ScopeNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_names), AfterValidator(_check_known)]
"""Comma-separated names, sorted; each is one of authsvc's own scopes or of the setting `scopes`."""
