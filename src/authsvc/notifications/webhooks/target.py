"""Reads the URL of a webhook: where it is, by name or by address, and what is asked for there."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import idna

#: The longest URL, in characters.
MAX_URL_LENGTH = 2048
_MAX_NAME_LENGTH = 253
_URL = re.compile(r"(?i:(https?)://)([^/?]*)((?:/[^?]*)?(?:\?.*)?)")
# What a path and a query consist of (RFC 3986, 3.3 and 3.4).
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What programs read as a number in an address: decimal, octal or hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# The ports that browsers refuse (Fetch, "port blocking"): services there would act on lines of a request.
# fmt: off
_REFUSED_PORTS = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512,
    513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719,
    1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 10080,
))
# fmt: on


class Target(NamedTuple):
    """What a URL says. `host` is in lower case, in ASCII, without brackets; `path` has the query, too."""

    is_plain: bool  # http, without TLS
    host: str
    address: IPv4Address | IPv6Address | None  # if the host is one
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host and the port, as the header Host has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (80 if self.is_plain else 443) else f"{host}:{self.port}"


def read_target(url: str) -> Target:
    """Return what a URL says. Raises ValueError, with what is wrong and the remedy."""
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"is too long: a URL has at most {MAX_URL_LENGTH} characters")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("has spaces or control characters; remove or percent-encode them")
    if "#" in url:
        raise ValueError("has a fragment; remove # and what follows it")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("is not a URL of a webhook; use a form like https://example.com/webhooks")
    scheme, authority, path = match.groups()
    if "@" in authority:
        raise ValueError(
            "has a user name or a password; remove it, because receivers check the signature instead"
        )
    if _PATH.fullmatch(path) is None:
        raise ValueError("has characters in its path or query that URLs do not have; percent-encode them")
    is_plain = scheme.lower() == "http"
    host, port = _split(authority, 80 if is_plain else 443)
    if host.startswith("["):
        address: IPv4Address | IPv6Address | None = _ipv6(host)
        host = str(address)
    else:
        host = _name(host)
        address = _ipv4(host)
    return Target(is_plain, host, address, port, path if path.startswith("/") else "/" + path)


def _split(authority: str, default_port: int) -> tuple[str, int]:
    """Return the host and the port."""
    match = re.fullmatch(r"(\[[^]]*\]|[^]:[]*)(?::([^:]*))?", authority)
    if match is None:
        raise ValueError("has a host that is not valid; an IPv6 address is written in brackets")
    host, port = match.groups()
    if port is None:
        return host, default_port
    if re.fullmatch("[1-9][0-9]{0,4}", port) is None or int(port) > 65535:
        raise ValueError(f"has the port {port[:10]!r}; use a number from 1 to 65535")
    if int(port) in _REFUSED_PORTS:
        raise ValueError(f"has the port {port}, which is for another protocol; use another port, such as 443")
    return host, int(port)


def _ipv6(host: str) -> IPv6Address:
    text = host[1:-1]
    try:
        found = IPv6Address(text)
    except ValueError:
        raise ValueError(f"has the host {host[:60]!r}, which is not an IPv6 address") from None
    if found.scope_id is not None:
        raise ValueError("has an address with a zone; use an address that needs none")
    if found.ipv4_mapped is not None:
        raise ValueError(f"has an IPv4 address in the form of IPv6; write {found.ipv4_mapped}")
    if str(found) != text.lower():
        raise ValueError(f"has an address in an unusual form; write [{found}]")
    return found


def _name(host: str) -> str:
    """Return a name in ASCII, as it is looked up; also an IPv4 address."""
    if not host:
        raise ValueError("has no host; use a form like https://example.com/webhooks")
    if host.endswith("."):
        raise ValueError("has a dot at the end of its host; remove it")
    if host.isascii():
        name = host.lower()
    else:
        try:
            name = idna.encode(host, uts46=True, std3_rules=True).decode().lower()
        except UnicodeError:
            raise ValueError(f"has the host {host[:60]!r}, which is not a valid name") from None
    if len(name) > _MAX_NAME_LENGTH or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f"has the host {host[:60]!r}, which is not a valid name")
    return name


def _ipv4(name: str) -> IPv4Address | None:
    """Return the address that a host is; None for a name. Unusual forms of addresses are refused."""
    if _NUMBER.fullmatch(name.rpartition(".")[2]) is None:
        return None
    try:
        return IPv4Address(name)
    except ValueError:
        raise ValueError(
            "has a host that ends in a number and is not an IPv4 address; write four decimal numbers without "
            "leading zeros"
        ) from None
