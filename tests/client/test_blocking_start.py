"""A blocking client whose start takes longer than the deadline of a call."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from authsvc.client import BlockingAuthClient, Unavailable, VerdictCode, auth_client, channels
from tests.client.standin import Standin

_VALID = VerdictCode.VALID
_DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


class Held:
    """The starts of clients. Each waits until `go` is set, as one does whose files are on a slow disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.fails = False
        self.number = 0
        make = channels.Channels

        def held(*arguments: Any, **options: Any) -> Any:
            self.number += 1
            self.begun.set()
            self.go.wait()
            if self.fails:
                raise OSError("no such file")
            return make(*arguments, **options)

        monkeypatch.setattr(auth_client, "Channels", held)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go.set()
    _join()


def _join() -> None:
    for thread in threading.enumerate():
        if thread.name == "authsvc-client":
            thread.join(30)
            assert not thread.is_alive()


def _code(client: BlockingAuthClient, deadline: float) -> object:
    """Return the code of a verdict, or that of the error."""
    try:
        return client.verify_key("presented", deadline=deadline).code
    except Unavailable as error:
        return error.reason or error.code


async def test_a_start_that_takes_longer_than_a_call(held: Held) -> None:
    """The next calls wait for the same start, each for its own time, and the client works after that."""
    async with Standin(_VALID).serving() as address:
        client = BlockingAuthClient(address, key="key", tls=None, deadline=30)
        assert await asyncio.to_thread(_code, client, 0.01) is _DEADLINE
        with ThreadPoolExecutor() as pool:
            patient = pool.submit(_code, client, 60)
            assert await asyncio.to_thread(_code, client, 0.01) is _DEADLINE
            assert not patient.done()
            held.go.set()
            assert await asyncio.wrap_future(patient) is _VALID
        assert await asyncio.to_thread(_code, client, 30) is _VALID
        assert held.number == 1
        await asyncio.to_thread(client.close)


async def test_closing_ends_a_start(held: Held) -> None:
    """Nothing remains of it, and the call after that starts the client again."""
    async with Standin(_VALID).serving() as address:
        client = BlockingAuthClient(address, key="key", tls=None, deadline=0.01)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(_code, client, 60)
            await asyncio.to_thread(held.begun.wait)
            await asyncio.to_thread(client.close)
            assert await asyncio.to_thread(_code, client, 0.01) is _DEADLINE  # not before the end
            held.go.set()
            assert await asyncio.wrap_future(waiting) == "CLIENT_CLOSED"
        _join()
        assert await asyncio.to_thread(_code, client, 30) is _VALID
        assert held.number == 2
        await asyncio.to_thread(client.close)


async def test_a_start_that_fails_after_a_call(held: Held) -> None:
    """Whoever waits gets the error, and the call after that starts the client again."""
    async with Standin(_VALID).serving() as address:
        client = BlockingAuthClient(address, key="key", tls=None, deadline=30)
        assert await asyncio.to_thread(_code, client, 0.01) is _DEADLINE
        held.fails = True
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(_code, client, 60)
            held.go.set()
            with pytest.raises(OSError, match="no such file"):
                await asyncio.wrap_future(waiting)
        held.fails = False
        assert await asyncio.to_thread(_code, client, 30) is _VALID
        await asyncio.to_thread(client.close)
