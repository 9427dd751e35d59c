"""Which URLs webhooks may have."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from authsvc.model.address import Network


class AddressRules:
    """Stands in for the rules of which addresses are called: nothing is called yet."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        """Take the private networks that may be called."""


def url_fault(url: str, networks: Sequence[Network]) -> str:
    """Return why a URL may not be registered, and the remedy; "" if it may. No name is resolved."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a valid URL; use one like https://example.org/hooks"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that a URL must not have; percent-encode them"
    if parts.scheme != "https" and not (parts.scheme == "http" and networks):
        return "must begin with https://"
    if not host:
        return "has no host; use a URL like https://example.org/hooks"
    if parts.username is not None or parts.password is not None:
        return "must not have a user name or a password; receivers check the signature instead"
    if parts.fragment:
        return "must not have a fragment (#…), which is never sent; remove it"
    return ""
