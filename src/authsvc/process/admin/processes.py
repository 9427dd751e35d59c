"""The processes of a replica as the admin listener sees them: connections on which it asks."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from authsvc.net.private_listener import PrivateListener

_log = logging.getLogger(__name__)

# Of an answer. The metrics of a process have some 80 KiB.
_MAX_LINE_BYTES = 4 * 1024 * 1024

_NOT_SERVING = "it does not serve: it is starting, or has ended; see the log"

Answer = Mapping[str, Any]


class Processes:
    """The connected processes. Of two with one name, as during a rolling restart, the newer one counts."""

    def __init__(self, listener: PrivateListener) -> None:
        self._listener = listener
        self._connections: set[_Connection] = set()
        self._reading: set[asyncio.Task[None]] = set()

    def accept(self) -> None:
        """Accept the processes that have connected."""
        try:
            while (accepted := self._listener.accept()) is not None:
                task = asyncio.ensure_future(self._read(accepted))
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)
        except OSError as error:
            _log.warning("cannot accept a process: %s", error)

    def close(self) -> None:
        """End all connections."""
        for task in self._reading:
            task.cancel()

    async def ask(self, question: str, names: Sequence[str], seconds: float) -> dict[str, Answer | str]:
        """Return, for each name, the answer of its process, or in words why there is none."""
        newest: dict[str, _Connection] = {}
        for connection in sorted(self._connections, key=lambda connection: connection.since):
            newest[connection.name] = connection
        asking = (newest[name].ask(question, seconds) if name in newest else _not_serving() for name in names)
        return dict(zip(names, await asyncio.gather(*asking), strict=True))

    async def _read(self, accepted: Any) -> None:
        """Read what a process says, until its connection ends."""
        reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=_MAX_LINE_BYTES)
        connection = None
        try:
            if hello := await reader.readline():
                connection = _Connection(writer, **json.loads(hello))
                self._connections.add(connection)
                while line := await reader.readline():
                    connection.note(json.loads(line))
        except OSError as error:
            _log.debug("the connection of a process has ended: %s", error)
        finally:
            if connection is not None:
                self._connections.discard(connection)
                connection.end()
            writer.close()


class _Connection:
    """A connection to one process; of each question at most one waits for its answer."""

    def __init__(self, writer: asyncio.StreamWriter, name: str, since: float) -> None:
        self.name = name
        self.since = since
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, tuple[float, asyncio.Future[Answer | str]]] = {}

    async def ask(self, question: str, seconds: float) -> Answer | str:
        """Return the answer, or why it has not come within `seconds` of the question.

        Whoever asks what was asked already waits for the same answer.
        """
        if question not in self._waiting:
            self._waiting[question] = self._loop.time(), self._loop.create_future()
            self._writer.write(f"{question}\n".encode())
        asked, answer = self._waiting[question]
        await asyncio.wait({answer}, timeout=max(0.0, asked + seconds - self._loop.time()))
        return answer.result() if answer.done() else f"it does not answer within {seconds:g} s"

    def note(self, answer: Answer) -> None:
        """Give an answer to those who wait for it."""
        _, waiting = self._waiting.pop(answer["question"])
        waiting.set_result(answer)

    def end(self) -> None:
        """Tell those who wait that no answer comes."""
        for _, waiting in self._waiting.values():
            waiting.set_result(_NOT_SERVING)


async def _not_serving() -> str:
    return _NOT_SERVING
