"""Opening connections to the database: all hosts of the URL side by side, and the first primary is taken.

Mechanism: as in Happy Eyeballs (RFC 8305), a connection to the next host is begun when the last one has
failed, or after a quarter of a second, and the same for the addresses of one name. So a host whose machine is
lost, and which answers nothing, delays others by that quarter, whatever its place in the list. The host that
was the primary last is tried first. Each attempt is one of asyncpg, with the URL as it is: asyncpg handles
passwords, TLS and the service file. Once a connection is taken, the other attempts are ended.

Bound: each attempt may take the whole time, since they run side by side. The pauses between them take at most
half of it.

Failure: ConnectError, which says what happened at each host.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.connect_utils import SessionAttribute

from authsvc.model.errors import OperatorError
from authsvc.store.connect_error import ConnectError, NotPrimaryError
from authsvc.store.hosts import UNREADABLE, Host, InvalidUrlError, hosts_of
from authsvc.store.requirements import refuse_impostor
from authsvc.store.session import SERVER_SETTINGS, pin
from authsvc.telemetry.current_call import answering

if TYPE_CHECKING:
    # The classes of asyncpg are generic for type checkers only.
    _Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection
_Attempt: TypeAlias = "Callable[[], Coroutine[Any, Any, DirectConnection | None]]"

# The delay that RFC 8305 recommends.
_MAX_STAGGER_SECONDS = 0.25
_MAX_REMEMBERED = 100
_MAX_STATEMENT_SECONDS = 5.0
# For each list of hosts: the one that was the primary last, and its address.
_primaries: dict[tuple[Host, ...], tuple[Host, str]] = {}


class DirectConnection(_Connection):
    """A connection that knows where it was opened."""

    __slots__ = ("hosts", "node")

    hosts: tuple[Host, ...]
    node: tuple[Host, str]

    @property
    def is_left(self) -> bool:
        """Whether another host, or another address, was the primary when it was looked for since."""
        return _primaries.get(self.hosts, self.node) != self.node

    async def close(self, *, timeout: float | None = _MAX_STATEMENT_SECONDS) -> None:
        """Close the connection within `timeout` seconds, whatever its state is; then drop it.

        It raises nothing: asyncpg's pool closes connections in tasks that nobody waits for.
        """
        with suppress(OSError, TimeoutError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError):
            await super().close(timeout=timeout)


async def connect(
    url: str, *, timeout: float, pooler: bool = False, loop: object = None, **options: Any
) -> DirectConnection:
    """Return a connection to the primary among the hosts of `url`, opened within `timeout` seconds.

    `pooler` means that a pooler with transaction pooling is in front, so no settings of the session are made.
    `options` are those of `asyncpg.connect`. The `loop`, which asyncpg's pool passes, is the running one.

    Raises ConnectError when no host is the primary, InvalidUrlError when the URL cannot be read, and
    OperatorError when the server is not a PostgreSQL that authsvc can use.
    """
    # A connection outlives the call that needs it first, and its log lines do not name that.
    with answering(None):
        search = _Search(url, await hosts_of(url), timeout, pooler, options)
        return await search.run()


class _Search:
    """One search for the primary."""

    def __init__(
        self, url: str, hosts: tuple[Host, ...], seconds: float, pooler: bool, options: dict[str, Any]
    ) -> None:
        self._url = url
        self._hosts = hosts
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds
        self._pooler = pooler
        self._options = options
        self._last = _primaries.get(hosts, (None, ""))
        self._failures: list[tuple[int, str, Exception]] = []

    async def run(self) -> DirectConnection:
        """Return a connection to the primary."""
        hosts = sorted(self._hosts, key=lambda host: host != self._last[0])
        connection = await _first([partial(self._reach, host) for host in hosts], self._seconds)
        if connection is not None:
            return connection
        failures = sorted(self._failures, key=lambda failure: failure[0])
        for _, _, error in failures:
            if isinstance(error, OperatorError | InvalidUrlError):
                raise error
        failed = ConnectError([(where, error) for _, where, error in failures], self._seconds)
        raise failed from failed.main

    async def _reach(self, host: Host) -> DirectConnection | None:
        """Return a connection to one of the addresses of a host, or None."""
        try:
            async with asyncio.timeout_at(self._until):
                addresses = await host.addresses()
        except UnicodeError:
            self._note(host, str(host), OSError("its name cannot be one of a host"))
            return None
        except OSError as error:
            late = isinstance(error, TimeoutError)
            self._note(host, str(host), OSError("its name was not resolved in time") if late else error)
            return None
        addresses = sorted(addresses, key=lambda address: (host, address) != self._last)
        tell = (lambda _: str(host)) if len(addresses) == 1 else f"{host} ({{}})".format
        attempts = [partial(self._try, host, address, tell(address)) for address in addresses]
        return await _first(attempts, self._seconds)

    async def _try(self, host: Host, address: str, where: str) -> DirectConnection | None:
        try:
            async with asyncio.timeout_at(self._until):
                connection = await self._open(host, address)
        except asyncpg.ClientConfigurationError:
            # The driver's own words may hold a part of the password.
            self._note(host, where, InvalidUrlError(UNREADABLE))
        except Exception as error:  # noqa: BLE001 - also what the driver makes of answers that are not PostgreSQL's
            self._note(host, where, error)
        else:
            if len(_primaries) >= _MAX_REMEMBERED:
                _primaries.clear()
            _primaries[self._hosts] = host, address
            return connection
        return None

    def _note(self, host: Host, where: str, error: Exception) -> None:
        self._failures.append((self._hosts.index(host), where, error))

    async def _open(self, host: Host, address: str) -> DirectConnection:
        """Open a connection to one address, and check that it can be written to."""
        # The driver takes the password of the first of its hosts that the password file has. So it is given
        # all of them, this one first, and connects to the last one only.
        listed = [host, *self._hosts, host]
        loop: Any = _Loop(asyncio.get_running_loop(), address, skip=len(listed) - 1)
        defaults = {"command_timeout": _MAX_STATEMENT_SECONDS, "connection_class": DirectConnection}
        options: Any = {**defaults, **self._options}
        settings = dict(SERVER_SETTINGS)
        if self._pooler:
            options["statement_cache_size"] = 0
        else:
            # It slows down queries of a millisecond. And a pooler in transaction mode refuses it, so that our
            # settings do not reach the sessions of others.
            settings["jit"] = "off"
        connection: DirectConnection = await asyncpg.connect(
            self._url,
            host=[each.name for each in listed],
            port=[each.port for each in listed],
            loop=loop,
            timeout=self._seconds,
            target_session_attrs=SessionAttribute.any,
            server_settings=settings,
            **options,
        )
        connection.hosts, connection.node = self._hosts, (host, address)
        try:
            try:
                if not self._pooler:
                    await pin(connection)
                await _refuse_standby(connection)
            except asyncpg.PostgresError:
                refuse_impostor(await connection.fetchval("SELECT version()"))
                raise
        except BaseException:
            connection.terminate()
            raise
        return connection


class _Loop:
    """The event loop, for a connection to one address of a host, under the name of the host.

    It refuses the first hosts that it is asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, skip: int) -> None:
        self._loop = loop
        self._address = address
        self._skip = skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, protocol: Any, host: str, port: int, **options: Any) -> Any:
        self._refuse_others()
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        made: list[Any] = []

        def make() -> Any:
            made.append(protocol())
            return made[-1]

        try:
            return await self._loop.create_connection(make, self._address, port, **options)
        except BaseException:
            for each in made:
                # What the driver's protocol of TLS waits for. Its error would be logged as never retrieved.
                if isinstance(answer := getattr(each, "on_data", None), asyncio.Future):
                    answer.cancel()
            raise

    async def create_unix_connection(self, protocol: Any, path: str) -> Any:
        self._refuse_others()
        return await self._loop.create_unix_connection(protocol, path)

    def _refuse_others(self) -> None:
        if self._skip:
            self._skip -= 1
            raise ConnectionRefusedError


async def _first(attempts: Sequence[_Attempt], seconds: float) -> DirectConnection | None:
    """Begin the attempts one after the other; return the first connection, or None if all fail.

    The next one begins when the last one has failed, or after a pause. The others are ended.
    """
    pause = min(_MAX_STAGGER_SECONDS, seconds / 2 / len(attempts))
    taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    tasks: list[asyncio.Future[Any]] = []

    async def take(attempt: _Attempt) -> None:
        connection = await attempt()
        if connection is not None and taken.done():
            connection.terminate()
        elif connection is not None:
            taken.set_result(connection)

    try:
        try:
            for attempt in attempts:
                tasks.append(asyncio.create_task(take(attempt)))
                await asyncio.wait([taken, tasks[-1]], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if taken.done():
                    break
            while not taken.done() and (pending := [task for task in tasks if not task.done()]):
                await asyncio.wait([taken, *pending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    except BaseException:
        if taken.done():
            taken.result().terminate()
        taken.cancel()
        raise
    return taken.result() if taken.done() else None


async def _refuse_standby(connection: DirectConnection) -> None:
    # Not by what the server reports when the connection is opened: a pooler repeats what its first server
    # reported, which may have been promoted or demoted since.
    row = await connection.fetchrow(
        "SELECT pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS read_only"
    )
    if row is None or row["standby"]:
        raise NotPrimaryError("is a standby")
    if row["read_only"] == "on":
        raise NotPrimaryError("is read-only (default_transaction_read_only is on)")
