"""The hosts of a database URL, and the addresses of their names.

Mechanism: asyncpg reads the URL, with the service file and the environment, and is stopped before it connects
to a host. So there is no second reader of URLs that could differ from the driver's. Names are resolved here:
the driver would wait for the first address of a name before it tries the next one.

Bound: one look-up of a name at a time, however many connections need it, because each occupies a thread until
the resolver gives up.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, zip_longest
from typing import Any

import asyncpg

from authsvc.store.driver_files import check_files

UNREADABLE = "the driver cannot read the URL of the database; check its hosts and options"
_MAX_PORT = 65535
_NAME = re.compile(r"[\w.:%-]+")
_lookups: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[list[Any]]] = {}


class InvalidUrlError(ValueError):
    """The driver cannot read the URL of the database. The message holds no part of the URL."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a URL: a name or an address, or the path of a Unix socket, which has no port."""

    name: str
    port: int = 0

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket."""
        return self.name.startswith("/")

    def __str__(self) -> str:
        if self.is_socket:
            return self.name
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    async def addresses(self) -> Sequence[str]:
        """Return the addresses in the order in which to try them, IPv6 and IPv4 in turn (RFC 8305, 4).

        Raises OSError when the name does not resolve.
        """
        if self.is_socket or _is_address(self.name):
            return [self.name]
        loop = asyncio.get_running_loop()
        lookup = _lookups.get((loop, self.name))
        if lookup is None:
            lookup = _lookups[loop, self.name] = loop.create_task(_look_up(loop, self.name))
            lookup.add_done_callback(partial(_note_end, loop, self.name))
        found = await asyncio.shield(lookup)
        families = [[each[4][0] for each in some] for _, some in groupby(found, key=lambda each: each[0])]
        in_turn = chain.from_iterable(zip_longest(*families))
        return list(dict.fromkeys(address for address in in_turn if address is not None))


async def _look_up(loop: asyncio.AbstractEventLoop, name: str) -> list[Any]:
    return await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)


def _note_end(loop: asyncio.AbstractEventLoop, name: str, lookup: asyncio.Task[list[Any]]) -> None:
    del _lookups[loop, name]
    if not lookup.cancelled():
        lookup.exception()  # Nobody may be waiting for it any more.


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


class _Listing:
    """An event loop for the driver that notes which hosts it would connect to, and connects to none."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.hosts: list[Host] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, _: object, name: str, port: int, **__: object) -> None:
        self.hosts.append(Host(name, port))
        raise ConnectionRefusedError

    async def create_unix_connection(self, _: object, path: str) -> None:
        self.hosts.append(Host(path))
        raise ConnectionRefusedError


async def hosts_of(url: str) -> tuple[Host, ...]:
    """Return the hosts of a URL in their order, each once.

    Raises InvalidUrlError, and ConnectError when the root certificates that TLS requires cannot be used.
    """
    listing: Any = _Listing(asyncio.get_running_loop())
    try:
        # The files of TLS and that of passwords are not needed for this, and are looked at afterwards.
        await asyncpg.connect(url, loop=listing, ssl=False, direct_tls=False, password="")
    except ConnectionRefusedError:
        pass
    except (ValueError, LookupError):
        # The driver's own words may hold a part of the password.
        raise InvalidUrlError(UNREADABLE) from None
    hosts = _checked(listing.hosts)
    check_files(url)
    return hosts


def _checked(hosts: Iterable[Host]) -> tuple[Host, ...]:
    for host in hosts:
        if not (host.is_socket or _NAME.fullmatch(host.name)):
            # It may be a part of the password, so it must not be shown.
            raise InvalidUrlError("the URL of the database has no valid host; in a password write @ as %40")
        if host.port > _MAX_PORT:
            raise InvalidUrlError(f"the URL of the database has a port above {_MAX_PORT}")
    return tuple(dict.fromkeys(hosts))
