"""How many round trips to the database a change takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.new_key import NewKey
from authsvc.model.scope import FULL_ACCESS
from tests.conftest import Clock, Service, serving
from tests.faults.proxy import Proxy
from tests.rpc.test_policies import set_policy

# The messages of a client whose answer it awaits: Query, and Sync after Parse, Bind and Execute.
_ANSWERED = b"QS"
_SSL_REQUEST = (80877103).to_bytes(4)


class Counter(Proxy):
    """A proxy that counts round trips and transactions, except on connections that follow the feed."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.trips = 0
        self.begun = 0  # transactions of several messages

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction. Only a client begins with a length, whose first byte is 0."""
        with suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            writer.write(first)
            if first == b"\0":
                await self._forward(reader, writer)
            else:
                await super()._pump(reader, writer)
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(3)
        body = await reader.readexactly(int.from_bytes(size) - 4)
        writer.write(size + body)
        while body == _SSL_REQUEST:
            size = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(size) - 4)
            writer.write(size + body)
        follows = False
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            follows = follows or b"LISTEN" in body
            self.begun += body.startswith(b"BEGIN")
            self.trips += head[:1] in _ANSWERED and not follows
            writer.write(head + body)


@pytest_asyncio.fixture
async def counter(database_url: str) -> AsyncIterator[Counter]:
    async with Counter(database_url) as counting:
        yield counting


@pytest_asyncio.fixture
async def counted(counter: Counter, clock: Clock) -> AsyncIterator[Service]:
    """A service whose round trips are counted."""
    async with serving(counter.url, clock) as service:
        yield service


@pytest_asyncio.fixture
async def caller(counted: Service, database_url: str) -> Caller:
    connection = await asyncpg.connect(database_url)
    key_id = await connection.fetchval("SELECT key_id FROM authsvc.keys")
    await connection.close()
    return Caller(key_id, "authsvc", (FULL_ACCESS,), CredentialKind.KEY)


@pytest.mark.parametrize("how", ["plain", "with a request_id", "with a limit", "by a session"])
async def test_a_key_is_created_in_three(
    counted: Service, counter: Counter, caller: Caller, how: str
) -> None:
    """One for the policy before the key is hashed, one for the rest, also if there is more to check."""
    if how == "with a limit":
        await set_policy(counted, max_active_keys=10)
    if how == "by a session":
        opened = await counted.admin.CreateSession(owner_id="authsvc", scopes=[FULL_ACCESS])
        session_id = opened.session.session_id
        caller = caller._replace(credential_id=session_id, kind=CredentialKind.SESSION)
    new = NewKey(owner_id="acme", display_name="Orders")
    for _ in range(3):  # The driver prepares each statement once.
        before = counter.trips
        request_id = str(uuid4()) if how == "with a request_id" else ""
        await counted.app.keys.create(caller, new, request_id)
    assert 0 < counter.trips - before <= 3
