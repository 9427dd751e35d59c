"""The role and the database that a database URL leads to.

Mechanism: asyncpg reads the URL, with the service file and the environment, and writes its first message into
a transport that keeps it. So there is no second reader of URLs that could differ from the driver's.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from authsvc.store.hosts import UNREADABLE, InvalidUrlError

# Stands for the user of the operating system, which the driver takes if no role is named.
_UNNAMED = "\x01"
_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Login:
    """A role and a database. Each is empty if it depends on the user of the operating system."""

    role: str
    database: str


class _Startup(asyncio.Transport):
    """Keeps what the driver writes."""

    def __init__(self) -> None:
        super().__init__()
        self.message = b""

    def write(self, data: Any) -> None:
        self.message += bytes(data)


class _Loop:
    """An event loop for the driver that lets it write its first message, and connects to no host."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.startup = _Startup()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, protocol: Callable[[], Any], *_: object, **__: object) -> None:
        self.startup = _Startup()
        protocol().connection_made(self.startup)
        raise ConnectionRefusedError

    create_unix_connection = create_connection


async def login_of(url: str) -> Login:
    """Return the role and the database of a URL. Raises InvalidUrlError."""
    loop: Any = _Loop(asyncio.get_running_loop())
    try:
        with _unnamed_user(), suppress(ConnectionRefusedError):
            # Neither the files of TLS nor that of passwords are needed for this.
            await asyncpg.connect(url, loop=loop, ssl=False, direct_tls=False, password="")
    except (ValueError, LookupError):
        # The driver's own words may hold a part of the password.
        raise InvalidUrlError(UNREADABLE) from None
    texts = loop.startup.message[_HEADER_BYTES:].decode().split("\0")
    sent = dict(zip(texts[::2], texts[1::2], strict=False))
    # PostgreSQL takes the name of the role if that of the database is empty.
    role, database = sent["user"], sent["database"] or sent["user"]
    return Login(role.replace(_UNNAMED, ""), database.replace(_UNNAMED, ""))


@contextmanager
def _unnamed_user() -> Iterator[None]:
    """Set PGUSER, if it is not set. The driver reads it before it gives way to other tasks."""
    given = os.environ.get("PGUSER")
    os.environ["PGUSER"] = given or _UNNAMED
    try:
        yield
    finally:
        if given is None:
            del os.environ["PGUSER"]
        else:
            os.environ["PGUSER"] = given
