"""Callers that client certificates identify: the file of AUTHSVC_CALLERS.

TOML, one table for each caller:

    [[caller]]
    spiffe_id = "spiffe://example.org/orders"   # or: subject = "CN=orders,O=Example"
    owner_id = "acme"
    scopes = ["keys:verify"]

A certificate with a SPIFFE ID is identified by that and nothing else, any other one by its whole subject as
RFC 2253 writes it, which is what `openssl x509 -noout -subject -nameopt RFC2253` prints.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.scopes import checked_scope
from authsvc.config.toml_table import TomlTable, TomlTables
from authsvc.model.caller import Caller
from authsvc.model.platform import is_lookalike
from authsvc.model.scope import OWN_SCOPES
from authsvc.model.text import fault

SETTING = "AUTHSVC_CALLERS"

Callers = Mapping[str, Caller]

# A trust domain, and a path without empty, "." or ".." segments (SPIFFE-ID 2.1, 2.2).
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")
_SPIFFE_ID_REMEDY = "a form like spiffe://example.org/orders, of at most 512 characters"
_SUBJECT = re.compile(r"[A-Za-z0-9.]+=.+")
_SUBJECT_REMEDY = (
    "a whole subject like CN=orders,O=Example, of at most 512 characters; "
    "openssl x509 -nameopt RFC2253 prints it"
)
# Names are stored as the creator of what a caller creates.
_MAX_NAME_LENGTH = 512


def _check_spiffe_id(spiffe_id: str) -> str:
    if _SPIFFE_ID.fullmatch(spiffe_id) is None:
        raise ValueError(f"use {_SPIFFE_ID_REMEDY}")
    return spiffe_id


def _check_subject(subject: str) -> str:
    # It is shown to people, as the creator of what the caller creates.
    if problem := fault(subject):
        raise ValueError(f"{problem}. Correct the certificate as well")
    if _SUBJECT.fullmatch(subject) is None:
        raise ValueError(f"use {_SUBJECT_REMEDY}")
    return subject


def _check_owner(owner_id: str) -> str:
    if is_lookalike(owner_id):
        raise ValueError(f"{owner_id!r} resembles the reserved owner authsvc; use another name")
    return owner_id


def _check_known(scope: str, info: ValidationInfo) -> str:
    if info.context is not None and scope not in OWN_SCOPES and scope not in info.context:
        raise ValueError(f"{scope} is not known here; correct it, or add it to AUTHSVC_SCOPES")
    return scope


def _check_twice(scopes: list[str]) -> list[str]:
    if len(set(scopes)) < len(scopes):
        raise ValueError("a scope is listed twice; remove one of them")
    return scopes


class _CallerTable(TomlTable):
    exactly_one_of = (("spiffe_id",), ("subject",))
    label_keys = ("spiffe_id", "subject")

    spiffe_id: Annotated[str, AfterValidator(_check_spiffe_id)] = Field(
        "", max_length=_MAX_NAME_LENGTH, description=_SPIFFE_ID_REMEDY
    )
    subject: Annotated[str, AfterValidator(_check_subject)] = Field(
        "", max_length=_MAX_NAME_LENGTH, description=_SUBJECT_REMEDY
    )
    owner_id: Annotated[str, AfterValidator(_check_owner)] = Field(
        pattern=r"^[A-Za-z0-9._:@-]{1,128}$",
        description="1 to 128 characters of A-Z a-z 0-9 . _ : @ -; authsvc is the platform",
    )
    scopes: Annotated[
        list[Annotated[str, BeforeValidator(checked_scope), AfterValidator(_check_known)]],
        AfterValidator(_check_twice),
    ] = Field(min_length=1, description='a list of at least one scope, like ["keys:verify"]')

    @property
    def name(self) -> str:
        """What identifies the caller's certificate."""
        return self.spiffe_id or self.subject


def reloaded_callers(path: Path, scopes: Collection[str] | None) -> ReloadedFiles[Callers]:
    """Return the callers of a file, by name; `scopes` are the operator's, None: any. Raises ConfigError."""

    def parse(contents: Contents) -> Callers:
        return read_callers(path, contents[SETTING], scopes)

    return ReloadedFiles({SETTING: path}, parse)


def read_callers(path: Path, content: bytes, scopes: Collection[str] | None = None) -> Callers:
    """Return the callers in the content of a file, by name; raise ConfigError that tells all problems."""
    tables = TomlTables(SETTING, path, content, "caller", _CallerTable, context=scopes)
    callers: dict[str, Caller] = {}
    for number, table in tables:
        if table.name in callers:
            tables.refuse(number, "is listed twice; remove one of them")
        callers[table.name] = Caller(table.name, table.owner_id, tuple(sorted(table.scopes)))
    tables.check()
    return callers
