"""The setting that is the URL of a mail server. It holds a password, so no message shows any part of it."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from authsvc.net.listen_address import ListenAddress

_REMEDY = (
    "use smtp://user:password@host:port, or smtps:// for TLS from the start; "
    "in user and password write / # ? @ : % as %2F %23 %3F %40 %3A %25"
)
_OPTIONS = frozenset({"tls", "ca"})


class Tls(Enum):
    """How the connection is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"  # Required: nothing is sent without it.
    IMPLICIT = "implicit"  # From the start, smtps://.


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server. Without a user, nobody logs in. `ca` None: the authorities of the system."""

    address: ListenAddress
    tls: Tls
    user: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))
    ca: Path | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what certificates are checked with; None without TLS. Raises OSError for a wrong file."""
        if self.tls is Tls.NONE:
            return None
        return ssl.create_default_context(cafile=self.ca)


def _read(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    return _server(value) if value else None


def _server(text: str) -> SmtpServer:
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        address = _address(parts)
        # Otherwise a part of a password could be taken for a host, a port or an option.
        wrong = parts.fragment or parts.path not in ("", "/") or "@" in parts.query or not text.isprintable()
    except ValueError:
        wrong = True
    if wrong or parts.scheme not in ("smtp", "smtps"):
        raise ValueError(_REMEDY)
    has_user = "@" in parts.netloc
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if has_user and not (user and password):
        raise ValueError(f"has only one of user and password; {_REMEDY}")
    if not (user + password).isprintable():
        raise ValueError("has a control character in user or password; leave it out")
    tls = _tls(parts.scheme, options, address, has_user=has_user)
    return SmtpServer(address, tls, user, SecretStr(password), _ca(tls, options))


def _address(parts: SplitResult) -> ListenAddress:
    """Return host and port; raise ValueError."""
    before, _, place = parts.netloc.rpartition("@")
    if "@" in before or before.count(":") > 1:
        raise ValueError
    if not place.rpartition("]")[2].count(":"):
        place += ":465" if parts.scheme == "smtps" else ":587"
    address = ListenAddress.parse(place)
    if not address.port:
        raise ValueError
    return address


def _tls(scheme: str, options: Mapping[str, str], address: ListenAddress, *, has_user: bool) -> Tls:
    if options.keys() - _OPTIONS:
        # Not named: it may be a part of a password.
        raise ValueError("has an unknown option after the ?; there are tls=starttls, tls=none and ca=FILE")
    if scheme == "smtps":
        if "tls" in options:
            raise ValueError(
                "has the option tls, but smtps:// is TLS from the start; leave the option tls out, or use smtp://"
            )
        return Tls.IMPLICIT
    chosen = options.get("tls", "starttls" if has_user or not address.is_loopback else "none")
    if chosen not in ("starttls", "none"):
        raise ValueError("has a wrong option tls; use tls=starttls or tls=none")
    if chosen == "none" and has_user:
        raise ValueError(
            "has a password, which is sent over TLS only; leave tls=none out, or user and password"
        )
    return Tls(chosen)


def _ca(tls: Tls, options: Mapping[str, str]) -> Path | None:
    if "ca" not in options:
        return None
    if tls is Tls.NONE:
        raise ValueError("has the option ca, which is for TLS; add tls=starttls, or use smtps://")
    if not options["ca"]:
        raise ValueError("has an empty option ca; name a PEM file of authorities, ca=FILE")
    return Path(options["ca"])


SmtpUrl = Annotated[SmtpServer | None, NoDecode, BeforeValidator(_read)]
"""smtp:// or smtps://, with what to log in with; None: no mail."""
