"""What fault tests share: workers under load, whose history is checked at the end."""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.faults.clients import Clients
from tests.faults.history import Outcome
from tests.faults.load import Load
from tests.faults.table import VOLUME
from tests.faults.workers import Fleet, fleet

# How many verifications are made under each fault; more on request.
_SOME = 1500

Scene: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Fleet, Load]]]
Holding: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Fleet, Load, Clients]]]
# The length of a sub-lease of clients that verify by themselves, in seconds.
SUB_LEASE = 1.0


@pytest.fixture
def volume() -> int:
    """The minimum number of verifications that this test checks."""
    return int(os.environ.get(VOLUME, _SOME))


@pytest.fixture
def scene(
    tmp_path: Path, database_url: str, volume: int, record_property: Callable[[str, object], None]
) -> Scene:
    """Run workers under load while the block runs, up to the volume; then check what clients observed."""

    @asynccontextmanager
    async def run(
        *,
        url: str = database_url,
        load: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[Fleet, Load]]:
        async with fleet(tmp_path, url, **options) as on:
            clients = Load(on, **(load or {}))
            begun = time.monotonic()
            try:
                await clients.start()
                yield on, clients
                await clients.reach(volume)
                await clients.finish()
            finally:
                await clients.abandon()
                history = clients.history
                violations = history.violations()
                record_property("operations", len(history.changes))
                record_property("verifications", len(history.verifications))
                of_sessions = sum(seen.key.startswith("ses_") for seen in history.verifications)
                record_property("of_sessions", of_sessions)
                record_property("of_tokens", clients.by_token)
                record_property("unavailable", history.count(Outcome.UNAVAILABLE))
                record_property("callers", len(history.callers.taken))
                record_property("caller_calls", len(history.callers.calls) + history.callers.refused_after)
                record_property("comparisons", history.callers.comparisons())
                record_property("violations", len(violations))
                record_property("load_seconds", time.monotonic() - begun)
                print(f"{len(violations)} violations", *violations[:20], sep="\n")  # noqa: T201
                print(dict(Counter(change.operation.value for change in history.changes)))  # noqa: T201
                print(dict(clients.refusals))  # noqa: T201
                print(*on.faults(), sep="\n")  # noqa: T201
            assert not violations, "\n".join(map(str, violations[:20]))
            assert not on.faults()

    return run


@pytest.fixture
def holding(
    scene: Scene, tmp_path: Path, volume: int, record_property: Callable[[str, object], None]
) -> Holding:
    """Run a scene with clients that verify by themselves, up to the volume of what they have verified."""

    @asynccontextmanager
    async def run(
        *, lease: float = 3.0, holder_lease: float = SUB_LEASE, **options: Any
    ) -> AsyncIterator[tuple[Fleet, Load, Clients]]:
        async with scene(lease=lease, holder_lease=holder_lease, **options) as (on, load):
            clients = Clients(on, load, tmp_path)
            try:
                yield on, load, clients
                await clients.reach(volume)
                await load.see_changes(10)
            finally:
                await clients.end()
                record_property("in_callers", clients.recalled)
                print(f"{clients.recalled} verifications in callers")  # noqa: T201
                for client in clients.all:
                    asked = {outcome.value: count for outcome, count in client.outcomes.items()}
                    print(client.name, client.recalled, client.unknown, asked)  # noqa: T201
            assert clients.recalled

    return run
