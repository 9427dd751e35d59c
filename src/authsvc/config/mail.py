"""Settings of mail: addresses, and the address of a console."""

import re
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_settings import NoDecode

from authsvc.model.mail_address import mail_fault
from authsvc.model.text import Form, fault, kept
from authsvc.net.listen_address import ListenAddress

_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
# The characters of URLs (RFC 3986).
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]+")
_MAX_NAME, _MAX_URL = 128, 1000


class Sender(NamedTuple):
    """What mail is sent from. The name may be empty."""

    name: str
    address: str


def _read_sender(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value or None
    named = _NAMED.fullmatch(value.strip())
    name, address = (named["name"], named["address"]) if named else ("", value)
    name, address = kept(name.strip().strip('"')), kept(address)
    _check_address(address)
    if not address.rpartition("@")[0].isascii():
        raise ValueError("has letters beyond ASCII before the @, which many mail servers do not accept")
    if len(name) > _MAX_NAME:
        raise ValueError(f"has a name of {len(name)} characters; use at most {_MAX_NAME}")
    if problem := fault(name, Form.LINE):
        raise ValueError(f"has a name that {problem}")
    return Sender(name, address)


def check_sender(value: Sender | None, info: ValidationInfo) -> Sender | None:
    """Return the sender; raise ValueError if there is none and mail is to be sent."""
    if value is None and info.data.get("smtp_url") is not None:
        raise ValueError("is missing; AUTHSVC_SMTP_URL requires an address that mail is sent from")
    return value


def _check_address(value: str) -> str:
    if value and (problem := mail_fault(value)):
        raise ValueError(problem)
    return value


def check_browser_url(value: str) -> str:
    """Return an address that people open in a browser, or an empty one; raise ValueError."""
    if not value:
        return value
    remedy = "use https://host/path, or http:// on this machine, without user, password and spaces"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(remedy) from None
    if not host or "@" in parts.netloc or _URL.fullmatch(value) is None:
        raise ValueError(remedy)
    if parts.scheme != "https" and not (parts.scheme == "http" and ListenAddress(host, 0).is_loopback):
        raise ValueError(remedy)
    if len(value) > _MAX_URL:
        raise ValueError(f"has {len(value)} characters; use at most {_MAX_URL}")
    return value


MailSender = Annotated[Sender | None, NoDecode, BeforeValidator(_read_sender)]
"""`ops@example.org`, or `Name <ops@example.org>`."""

MailAddress = Annotated[str, AfterValidator(kept), AfterValidator(_check_address)]
"""A mail address, or empty."""

ConsoleUrl = Annotated[str, AfterValidator(check_browser_url)]
"""An address for browsers, or empty."""
