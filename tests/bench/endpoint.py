"""The endpoint of verifications in this process, without a transport: microseconds for a warm hit."""

import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any
from unittest import mock

from authsvc.app import serving
from authsvc.gateway import ext_authz
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.served import Served
from tests.bench.server import VERIFY, VERIFY_SESSION
from tests.bench.table import AtMost, Row

_PART = "front"
CHECK = f"/{ext_authz.SERVICE}/{ext_authz.METHOD}"
_AIMS = {VERIFY: 8.0, VERIFY_SESSION: 8.0, CHECK: 12.0}
_CALLS = 2_000
_PEER = "ipv4:192.0.2.1:4711"


class _Call:
    """A call whose message is there, as `rpc.context.WholeCall`."""

    account = ""

    def __init__(self, metadata: list[tuple[str, str]], data: bytes) -> None:
        self._metadata, self._data = metadata, data
        self._callbacks: list[Callable[[Any], None]] = []

    def peer(self) -> str:
        return _PEER

    def invocation_metadata(self) -> Iterable[tuple[str, str]]:
        return self._metadata

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def read(self) -> bytes:
        return self._data

    def over(self) -> None:
        for callback in self._callbacks:
            callback(self)


def call(key_string: str, data: bytes) -> Any:
    """Return a call with this credential."""
    return _Call([("authorization", f"Bearer {key_string}")], data)


def catching(stack: AsyncExitStack) -> list[Served]:
    """Return a list that gets what a worker serves, once one has started."""
    caught: list[Served] = []

    def served(*arguments: Any, **options: Any) -> Served:
        caught.append(Served(*arguments, **options))
        return caught[-1]

    stack.enter_context(mock.patch.object(serving, "Served", served))
    return caught


async def measure(served: Served, key_string: str, messages: dict[str, bytes], *, rounds: int) -> list[Row]:
    """Return a row for each RPC, by path: at once, as the lane asks, and by a coroutine, as grpcio does."""
    rows = []
    for path, data in messages.items():
        took: dict[str, list[float]] = {"at once": [], "awaited": []}
        _at_once(served.rpcs[path], key_string, data)  # the first look at everything takes longer
        for _ in range(rounds):
            took["at once"].append(_at_once(served.rpcs[path], key_string, data))
            took["awaited"].append(await _awaited(served.rpcs[path], key_string, data))
        one, other = (f"{median(took[side]):.1f} µs {side}" for side in took)
        what = f"the endpoint of {path.rpartition('/')[2]} without a transport, in µs"
        rows.append(Row(_PART, what, one, other, median(took["at once"]), AtMost(_AIMS[path])))
    return rows


def _at_once(rpc: Rpc, key_string: str, data: bytes) -> float:
    assert rpc.at_once is not None
    started = time.perf_counter()
    for _ in range(_CALLS):
        answer = rpc.at_once(call(key_string, data), data)
        assert isinstance(answer, bytes)
    return (time.perf_counter() - started) / _CALLS * 1e6


async def _awaited(rpc: Rpc, key_string: str, data: bytes) -> float:
    started = time.perf_counter()
    for _ in range(_CALLS):
        begun = call(key_string, data)
        await rpc.handle(None, begun)
        begun.over()
    return (time.perf_counter() - started) / _CALLS * 1e6
