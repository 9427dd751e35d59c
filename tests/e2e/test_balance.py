"""Connections of a service with several workers: a worker that has too few gets the new ones."""

from contextlib import AsyncExitStack
from pathlib import Path

from tests.e2e.process import eventually, free_port, on_linux
from tests.e2e.test_workers import Pack, pack

_EACH = 6


def _counts(on: Pack) -> list[int]:
    return [int(on.server.metric("authsvc_connections", worker)) for worker in range(2)]


async def _connected(on: Pack, stack: AsyncExitStack) -> int:
    """Open a connection that lasts as long as the stack; return which worker got it, once all know."""
    before = _counts(on)
    client = await stack.enter_async_context(on.client())
    await client.VerifyKey(key_string="x")
    await eventually(lambda: sum(_counts(on)) == sum(before) + 1)
    after = _counts(on)
    return 0 if after[0] > before[0] else 1


@on_linux
async def test_who_has_few_connections_gets_the_new_ones(directory: Path, database_url: str) -> None:
    """The workers of a supervisor know how many connections each of them has, and lead new ones."""
    admin = f"127.0.0.1:{free_port()}"
    async with pack(directory, database_url, 2, admin_listen=admin, connection_age=0) as on:
        async with AsyncExitStack() as first, AsyncExitStack() as second:
            opened, closing = 0, [first, second]
            while min(_counts(on)) < _EACH:
                opened += 1
                assert opened < 4 * _EACH, _counts(on)
                async with AsyncExitStack() as stack:
                    worker = await _connected(on, stack)
                    closing[worker].push_async_exit(stack.pop_all().__aexit__)
            await first.aclose()
            await eventually(lambda: _counts(on)[0] == 0)
            async with AsyncExitStack() as stack:
                assert [await _connected(on, stack) for _ in range(_EACH)] == [0] * _EACH
        assert on.server.end() == 0
