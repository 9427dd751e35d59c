"""A client in a forked process, in another event loop, and without any answer from gRPC."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.client import AuthClient, BlockingAuthClient, ClientError, Tls, Unavailable, VerdictCode
from tests.client.standin import Standin
from tests.conftest import Service
from tests.e2e.process import environment, run
from tests.rpc.test_revoke import make

# Shared by all programs. `forked` runs a function in a child, prints the result, and waits for the child.
_FORKS = """
import asyncio, os, sys
from authsvc.client import AuthClient, BlockingAuthClient, ClientError

address = sys.argv[1]

def client():
    return AuthClient(address, key="key", tls=None, deadline=30)

async def ask():
    async with client() as one:
        return await one.verify_key("presented")

def forked(name, question):
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)  # of the parent
        try:
            answer = question().code.name
        except ClientError as error:
            answer = f"{type(error).__name__} {error.reason or error.code.name}"
        print(name, answer, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""

_ASYNC = """
async def main():
    async with client() as inherited:
        forked("inherited", lambda: asyncio.run(inherited.verify_key("presented")))
        forked("new", lambda: asyncio.run(ask()))
        forked("child", lambda: (forked("grandchild", lambda: asyncio.run(ask())), os._exit(0)))
        print("parent", (await inherited.verify_key("presented")).code.name, flush=True)

forked("before", lambda: asyncio.run(ask()))
asyncio.run(main())
"""

_BLOCKING = """
client = BlockingAuthClient(address, key="key", tls=None, deadline=30)
ask = lambda: client.verify_key("presented")
forked("one", ask)
forked("another", ask)
print("parent", ask().code.name, flush=True)
forked("inherited", ask)
"""

# A thread is slowly starting the client when the process is forked.
_STARTING = """
import signal, threading
client = BlockingAuthClient(address, key="key", tls=None, deadline=30)
starting = threading.Event()

async def start():
    starting.set()
    await asyncio.Future()

client._client.__class__ = type("Slow", (AuthClient,), {"__aenter__": lambda self: start()})
threading.Thread(target=client.verify_key, args=["presented"], daemon=True).start()
starting.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends a child that hangs
    client.close()
    os._exit(0)
print("child", os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


async def told(program: str) -> list[str]:
    """Return the output of a program that calls an authsvc for which everything is valid."""
    async with Standin(VerdictCode.VALID).serving() as address:
        command = (sys.executable, "-c", _FORKS + program, address)
        # gRPC's own fork handlers sometimes end a process that forks while it connects.
        env = environment() | {"GRPC_ENABLE_FORK_SUPPORT": "0"}
        done = await asyncio.to_thread(run, *command, cwd=Path.cwd(), env=env)
    assert done.code == 0, done.stderr
    return done.stdout.splitlines()


async def test_a_client_does_not_pass_a_fork() -> None:
    """Neither it nor a new client works in the child, which fails at once; the parent is not affected."""
    assert await told(_ASYNC) == [
        "before VALID",
        "inherited Refused CLIENT_FORKED",
        "new Refused CLIENT_FORKED",
        "grandchild Refused CLIENT_FORKED",
        "parent VALID",
    ]


async def test_a_blocking_client_starts_in_each_process() -> None:
    """A client that has not been used yet works in all children, each with connections of its own."""
    assert await told(_BLOCKING) == [
        "one VALID",
        "another VALID",
        "parent VALID",
        "inherited Refused CLIENT_FORKED",
    ]


async def test_a_child_can_close_a_client_that_was_starting() -> None:
    """The thread that was starting it and holds its lock does not exist in the child."""
    assert await told(_STARTING) == ["child 0"]


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "authsvc-client"]


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.AbstractEventLoop]:
    """The event loops that are created in the test."""
    made: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def new() -> asyncio.AbstractEventLoop:
        made.append(new_event_loop())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new)
    return made


def test_starts_that_fail_leave_nothing_open(loops: list[asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    """No threads remain, nor the descriptors of their event loops."""
    client = BlockingAuthClient("127.0.0.1:1", key="key", tls=Tls(ca=tmp_path / "missing"), deadline=30)
    for _ in range(3):
        with pytest.raises(OSError, match="missing"):
            client.verify_key("presented")
    for thread in _threads():
        thread.join(30)
    assert [loop.is_closed() for loop in loops] == [True] * 3


def test_closing_does_not_wait_for_ever(
    loops: list[asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connections do not close, calls in flight still end, and so does the thread."""
    client = BlockingAuthClient("127.0.0.1:1", key="key", tls=None, deadline=0.01)
    in_flight = threading.Event()

    async def hang(*_: object, **__: object) -> Any:
        in_flight.set()
        await asyncio.Future()

    monkeypatch.setattr(AuthClient, "verify_key", hang)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.verify_key, "presented", deadline=60)
        in_flight.wait()
        with monkeypatch.context() as patched:
            patched.setattr(AuthClient, "__aexit__", hang)
            client.close()
        for thread in _threads():
            thread.join(30)
        assert [loop.is_closed() for loop in loops] == [True]
        with pytest.raises(Unavailable) as refused:
            asked.result()
    assert refused.value.reason == "CLIENT_CLOSED"


async def test_the_deadline_holds_when_grpc_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client enforces it itself, in case gRPC never reports its own."""

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Future()

    async with AuthClient("127.0.0.1:1", key="key", tls=None, deadline=0.01) as client:
        assert client._channels is not None
        for connection in client._channels._connections:
            monkeypatch.setattr(connection, "verify_key", hang)
        with pytest.raises(Unavailable) as refused:
            await client.verify_key("presented")
    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_client_does_not_pass_to_another_loop() -> None:
    """It fails there at once, also when it is closed there, and keeps working in its own loop."""
    async with (
        Standin(VerdictCode.VALID).serving() as address,
        AuthClient(address, key="key", tls=None, deadline=30) as client,
    ):

        async def close() -> None:
            await client.__aexit__(None, None, None)

        def elsewhere(use: Callable[[], Coroutine[Any, Any, object]]) -> None:
            asyncio.run(use())

        for use in (lambda: client.verify_key("presented"), close):
            with pytest.raises(ClientError, match="another event loop") as refused:
                await asyncio.to_thread(elsewhere, use)
            assert refused.value.reason == "CLIENT_OTHER_LOOP"
        assert await client.verify_key("presented")


async def test_a_blocking_client(service: Service) -> None:
    """It works like the other client, from any thread, and starts again after it was closed."""
    key = await make(service, scopes=["a"])
    session = await service.admin.CreateSession(owner_id="alice", scopes=["a"])
    with BlockingAuthClient(service.address, key=service.admin_key, tls=None, deadline=30) as client:

        def ask(*arguments: Any) -> object:
            return client.verify_key(key.key_string, *arguments).code

        answers = await asyncio.gather(*(asyncio.to_thread(ask, "a") for _ in range(20)))
        assert set(answers) == {VerdictCode.VALID}
        assert await asyncio.to_thread(ask, "b") is VerdictCode.INSUFFICIENT_SCOPE
        await asyncio.to_thread(client.close)
        found = await asyncio.to_thread(client.verify_session, session.session_token, "a", "192.0.2.7")
        assert (found.valid, found.owner_id) == (True, "alice")
        with pytest.raises(ValueError, match="is not a valid scope"):
            await asyncio.to_thread(ask, [" "])
        assert service.admin_key not in repr(client)
        await asyncio.to_thread(client.close)


def test_a_blocking_client_takes_what_the_other_does() -> None:
    """Invalid arguments are refused when it is created."""
    with pytest.raises(ValueError, match="plain text"):
        BlockingAuthClient("authsvc.internal:50051", key="key", tls=None)
