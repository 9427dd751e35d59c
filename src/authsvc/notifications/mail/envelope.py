"""Mail addresses as mail servers take them."""

import re
from email.headerregistry import Address

import idna

# What needs no quotes before the @ (RFC 5321, 4.1.2; RFC 6531, 3.3).
_DOT_STRING = re.compile(r"[^.]+(?:\.[^.]+)*")


class AddressError(ValueError):
    """No mail server takes this address; the message says why."""


def header_address(address: str, name: str = "") -> Address:
    """Return a valid address as it is in a header. Its domain is in A-labels (IDNA 2008, UTS #46).

    Raises AddressError for a domain that there cannot be.
    """
    local, _, domain = address.rpartition("@")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        if not domain.isascii():
            raise AddressError(f"{domain!r} cannot be a domain") from None
        ascii_domain = domain  # Such as one with an underscore, which some have.
    return Address(header_text(name), local, ascii_domain)


def header_text(text: str) -> str:
    """Return a text as it can be put into a header.

    The library would decode encoded words (RFC 2047) that somebody wrote, and write line feeds that these
    have into the head of the message, where each line is a header.
    """
    return text.replace("=?", "= ?")


def envelope_address(address: Address) -> str:
    """Return an address as it is in a command."""
    local = address.username
    return f"{local}@{address.domain}" if _DOT_STRING.fullmatch(local) else f'"{local}"@{address.domain}'


def is_international(address: Address) -> bool:
    """Return whether only mail servers with SMTPUTF8 take this address."""
    return not address.username.isascii()
