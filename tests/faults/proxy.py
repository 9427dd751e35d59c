"""A proxy to the database that can be cut: nothing arrives, in either direction, without an error."""

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards bytes while it is open. Bytes in flight when it was cut arrive when it heals."""

    def __init__(self, database_url: str, host: str = "127.0.0.1") -> None:
        self._target = urlsplit(database_url)
        self._host = host
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the database through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{login}@{self._host}:{port}").geturl()

    def cut(self) -> None:
        """Stop forwarding."""
        self._open.clear()

    def heal(self) -> None:
        """Forward again, including what has arrived meanwhile."""
        self._open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, self._host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            with suppress(OSError):
                there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
                try:
                    await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
                finally:
                    back.close()
        except asyncio.CancelledError:
            pass  # It ends with us; asyncio's server would report it otherwise.
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        await self._open.wait()  # An end is not forwarded either.
        writer.close()
