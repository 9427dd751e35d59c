"""Callers that a certificate stands for: the file of AUTHSVC_CALLERS.

TOML, one table for each caller:

    [[caller]]
    spiffe_id = "spiffe://example.org/orders"   # or: subject = "CN=orders,O=Example"
    owner_id = "acme"
    scopes = ["keys:verify"]

A certificate with a SPIFFE id is known by that and nothing else, any other one by its whole subject as
RFC 2253 writes it, which is what `openssl x509 -noout -subject -nameopt RFC2253` prints.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from authsvc.config.file import text_of
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import ConfigError
from authsvc.model.caller import Caller
from authsvc.model.platform import is_lookalike
from authsvc.model.scope import OWN_SCOPES, is_scope
from authsvc.model.text import cleaned, fault

SETTING = "AUTHSVC_CALLERS"

Callers = Mapping[str, Caller]

_KEYS = ("spiffe_id", "subject", "owner_id", "scopes")
_OWNER = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
# A trust domain, and a path without empty, "." or ".." segments (SPIFFE-ID 2.1, 2.2).
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")
_SUBJECT = re.compile(r"[A-Za-z0-9.]+=.+")
# They are kept as the creator of what they create.
_MAX_LENGTH = 512


def reloaded_callers(path: Path, scopes: Collection[str] | None) -> ReloadedFiles[Callers]:
    """Return the callers of a file, by name; `scopes` are the operator's, None: any. Raises ConfigError."""

    def parse(contents: Contents) -> Callers:
        return read_callers(path, contents[SETTING], scopes)

    return ReloadedFiles({SETTING: path}, parse)


def read_callers(path: Path, content: bytes, scopes: Collection[str] | None = None) -> Callers:
    """Return the callers in what a file holds, by name; raise ConfigError that tells all that is wrong."""
    try:
        document = tomllib.loads(text_of(content))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{SETTING}: {path} is no TOML: {error}") from None
    problems = [
        f"{name!r} is not known here; write each caller as a table [[caller]]"
        for name in document
        if name != "caller"
    ]
    tables = document.get("caller", [])
    if not isinstance(tables, list):
        problems.append("write [[caller]] with two brackets, since there can be several")
        tables = []
    callers: dict[str, Caller] = {}
    for number, table in enumerate(tables, 1):
        found = _problems(table, scopes)
        name = _name(table)
        if not found and name in callers:
            found = ["is named twice; keep one of the two"]
        shown = f" ({cleaned(name)})" if name else ""
        problems += [f"caller {number}{shown}: {problem}" for problem in found]
        if not found:
            callers[name] = Caller(name, table["owner_id"], tuple(sorted(table["scopes"])))
    if problems:
        raise ConfigError("\n".join(f"{SETTING}: {path}: {problem}" for problem in problems))
    return callers


def _name(table: object) -> str:
    if not isinstance(table, dict):
        return ""
    name = table.get("spiffe_id") or table.get("subject")
    return name[:_MAX_LENGTH] if isinstance(name, str) else ""


def _problems(table: Any, scopes: Collection[str] | None) -> list[str]:
    if not isinstance(table, dict):
        return ["is no table; write [[caller]] and its keys below"]
    return [
        *(f"{key!r} is not known; known are {', '.join(_KEYS)}" for key in table if key not in _KEYS),
        *_name_problems(table),
        *_owner_problems(table),
        *_scope_problems(table, scopes),
    ]


def _name_problems(table: dict[str, Any]) -> list[str]:
    if ("spiffe_id" in table) == ("subject" in table):
        return ["give either spiffe_id or subject, and not both"]
    kind = "spiffe_id" if "spiffe_id" in table else "subject"
    name = table[kind]
    if not isinstance(name, str) or len(name) > _MAX_LENGTH:
        return [f"{kind} has to be a text of at most {_MAX_LENGTH} characters"]
    if kind == "spiffe_id" and _SPIFFE.fullmatch(name) is None:
        return ["spiffe_id has to have a form like spiffe://example.org/orders"]
    # It is shown to people, as the creator of what the caller creates.
    if problem := fault(name):
        return [f"{kind} {problem}, in the certificate, too"]
    if kind == "subject" and _SUBJECT.fullmatch(name) is None:
        return [
            "subject has to be a whole one like CN=orders,O=Example; openssl x509 -nameopt RFC2253 prints it"
        ]
    return []


def _owner_problems(table: dict[str, Any]) -> list[str]:
    owner_id = table.get("owner_id")
    if isinstance(owner_id, str) and _OWNER.fullmatch(owner_id):
        if is_lookalike(owner_id):
            return [f"owner_id {owner_id!r} looks like authsvc, the platform, and is not; use another name"]
        return []
    return ["owner_id has to be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -; authsvc is the platform"]


def _scope_problems(table: dict[str, Any], known: Collection[str] | None) -> list[str]:
    scopes = table.get("scopes")
    if not isinstance(scopes, list) or not scopes:
        return ['scopes has to be a list of at least one, like ["keys:verify"]']
    problems = []
    for scope in scopes:
        if not isinstance(scope, str) or not is_scope(scope):
            problems.append(f"{scope!r} is no scope; use a form like orders:read")
        elif known is not None and scope not in OWN_SCOPES and scope not in known:
            problems.append(f"the scope {scope} is not known here; correct it, or add it to AUTHSVC_SCOPES")
    if not problems and len(set(scopes)) < len(scopes):
        problems.append("a scope stands there twice; keep one")
    return problems
