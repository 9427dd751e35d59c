"""Calls in a database with a million keys of ten thousand owners, against one with ten thousand keys.

Both databases are in one PostgreSQL and hold owners of the same kind: the largest has a tenth of all keys,
one in the middle a hundredth, and the others have some 90 each. Each database has a service of its own. The
services have one core, and PostgreSQL and the client have the others. Calls are timed at the client, one at a
time, in turns.

A round creates keys in several owners, verifies each of them once, which reads it from PostgreSQL and proves
it with argon2id, and revokes each of them; then all keys of some owners are revoked, and pages are listed.
"""

import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench import key_rows, server
from tests.bench.bench import POSTGRES, say
from tests.bench.key_rows import LARGEST, MIDDLE, SMALL
from tests.bench.rounds import Side, in_turns, ratio
from tests.bench.table import AtMost, Row

_PART = "scale"
_AIM = AtMost(1.5)
_PAGE = 50
_CORES = sorted(os.sched_getaffinity(0))

_ACTIVE, _REVOKED = resources_pb2.KEY_STATE_ACTIVE, resources_pb2.KEY_STATE_REVOKED
_LISTS: dict[str, dict[str, Any]] = {
    "first page, small owner": {"owner_id": SMALL},
    "first page, largest owner": {"owner_id": LARGEST},
    "first page, owner in the middle": {"owner_id": MIDDLE},
    "page in the middle, owner in the middle": {"owner_id": MIDDLE},
    "active, by name, owner in the middle": {
        "owner_id": MIDDLE,
        "filter": {"states": [_ACTIVE]},
        "order_by": "display_name",
    },
    "first page by last use, owner in the middle": {"owner_id": MIDDLE, "order_by": "last_use_time desc"},
    "first page by name, largest owner": {"owner_id": LARGEST, "order_by": "display_name"},
    "first page by last use, largest owner": {"owner_id": LARGEST, "order_by": "last_use_time desc"},
    "page in the middle, largest owner": {"owner_id": LARGEST},
    "page in the middle by name, largest owner": {"owner_id": LARGEST, "order_by": "display_name"},
    "revoked, largest owner": {"owner_id": LARGEST, "filter": {"states": [_REVOKED]}},
    "active, by name, largest owner": {
        "owner_id": LARGEST,
        "filter": {"states": [_ACTIVE]},
        "order_by": "display_name",
    },
    "common scope, largest owner": {"owner_id": LARGEST, "filter": {"scope": "orders:read"}},
    "scope, rare here, common elsewhere": {"owner_id": LARGEST, "filter": {"scope": "audit:export"}},
    "name, rare": {"owner_id": LARGEST, "filter": {"query": "zebra"}},
    "name, rare here, common elsewhere": {"owner_id": LARGEST, "filter": {"query": "walrus"}},
    "name, common, small owner": {"owner_id": SMALL, "filter": {"query": "Prod"}},
    "creator, rare": {"owner_id": LARGEST, "filter": {"creator_id": "key_rare"}},
}


@dataclass(slots=True)
class _Side:
    """A database, its service, and the keys that were created in this round."""

    stub: KeyServiceStub
    metadata: tuple[tuple[str, str], ...]
    owners: int
    # Numbers of owners of which all keys are revoked, from the last one down.
    whole: Iterator[int]
    made: list[Any] = field(default_factory=list)

    async def ask(self, method: str, request: Any) -> Any:
        """Call an RPC as an administrator."""
        return await getattr(self.stub, method)(request, metadata=self.metadata)


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about a large database."""
    rounds, keys, calls = (3, 100_000, 20) if quick else (9, 1_000_000, 50)
    async with AsyncExitStack() as stack:
        stack.enter_context(_beside_the_service())
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        postgres = await stack.enter_async_context(
            DevPostgres(Path(directory) / "postgres", settings=POSTGRES)
        )
        large = await stack.enter_async_context(_filled(postgres, "large", keys))
        small = await stack.enter_async_context(_filled(postgres, "small", 10_000))
        say(
            f"scale: {rounds} rounds of {calls} creations, verifications and revocations, {len(_LISTS)} lists"
        )
        return [
            *await _changes(large, small, rounds, calls),
            *await _lists(large, small, rounds, calls),
        ]


async def _changes(large: _Side, small: _Side, rounds: int, calls: int) -> list[Row]:
    """Time what is done to keys: each step of a round for both databases, then the next one."""
    steps: dict[str, Callable[[_Side], Awaitable[float]]] = {
        "CreateKey": lambda side: _create(side, calls),
        "cold VerifyKey": _verify,
        "RevokeKey": _revoke,
        "BatchRevokeKeys of an owner": _revoke_owner,
    }
    sides = {
        f"{name}, {which}": _bound(step, side)
        for name, step in steps.items()
        for which, side in (("large", large), ("small", small))
    }
    await in_turns(sides, 1)
    times = await in_turns(sides, rounds)
    return [_row(name, times[f"{name}, large"], times[f"{name}, small"]) for name in steps]


async def _lists(large: _Side, small: _Side, rounds: int, calls: int) -> list[Row]:
    rows = []
    for name, asked in _LISTS.items():
        requests = [await _request(side, name, asked) for side in (large, small)]
        sides = {
            "large": _bound(_timed_list(requests[0], calls), large),
            "small": _bound(_timed_list(requests[1], calls), small),
        }
        await in_turns(sides, 1)
        times = await in_turns(sides, rounds)
        rows.append(_row(f"ListKeys, {name}", times["large"], times["small"]))
    return rows


def _bound(step: Callable[[_Side], Awaitable[float]], side: _Side) -> Side:
    async def run() -> float:
        return await step(side)

    return run


def _row(what: str, large: Sequence[float], small: Sequence[float]) -> Row:
    one, other = (f"{median(times) * 1000:.2f} ms" for times in (large, small))
    return Row(_PART, what, f"{one}, many keys", f"{other}, 10,000 keys", ratio(large, small), _AIM)


async def _timed(calls: Sequence[Callable[[], Awaitable[Any]]]) -> float:
    """Return the median time of calls, one after the other."""
    times = []
    for call in calls:
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return median(times)


async def _create(side: _Side, calls: int) -> float:
    side.made = []

    async def create(number: int) -> None:
        # Every other key is for the largest owner.
        owner_id = LARGEST if number % 2 else f"other-{1 + number * 7919 % (side.owners // 2)}"
        request = pb.CreateKeyRequest(owner_id=owner_id, display_name="New one", scopes=["orders:read"])
        side.made.append(await side.ask("CreateKey", request))

    return await _timed([lambda number=number: create(number) for number in range(calls)])  # type: ignore[misc]


async def _verify(side: _Side) -> float:
    async def verify(made: Any) -> None:
        assert (await side.ask("VerifyKey", pb.VerifyKeyRequest(key_string=made.key_string))).valid

    return await _timed([lambda made=made: verify(made) for made in side.made])  # type: ignore[misc]


async def _revoke(side: _Side) -> float:
    async def revoke(made: Any) -> None:
        key = await side.ask("RevokeKey", pb.RevokeKeyRequest(key_id=made.key.key_id, reason="bench"))
        assert key.state == _REVOKED

    return await _timed([lambda made=made: revoke(made) for made in side.made])  # type: ignore[misc]


async def _revoke_owner(side: _Side) -> float:
    async def revoke() -> None:
        request = pb.BatchRevokeKeysRequest(owner_id=f"other-{next(side.whole)}", reason="bench")
        assert (await side.ask("BatchRevokeKeys", request)).revoked_count > 0

    return await _timed([revoke, revoke, revoke])


def _timed_list(request: pb.ListKeysRequest, calls: int) -> Callable[[_Side], Awaitable[float]]:
    async def run(side: _Side) -> float:
        return await _timed([lambda: side.ask("ListKeys", request)] * calls)

    return run


async def _request(side: _Side, name: str, asked: dict[str, Any]) -> pb.ListKeysRequest:
    """Return the request for the page of a case, after a look at what it returns."""
    request = pb.ListKeysRequest(page_size=_PAGE, **asked)
    if name.startswith("page in the middle"):
        await _go_to_the_middle(side, request)
    found = len((await side.ask("ListKeys", request)).keys)
    # Of what is rare, an owner has 20 keys, or 21 if their number is not a multiple of 20.
    expected = (20, 21) if "rare" in name else (_PAGE,)
    if found not in expected and "small owner" not in name:
        raise AssertionError(f"{name}: a page has {found} keys instead of {expected[0]}")
    return request


async def _go_to_the_middle(side: _Side, request: pb.ListKeysRequest) -> None:
    """Set the page token of a request to the middle of the list."""
    counting = pb.ListKeysRequest(owner_id=request.owner_id, page_size=1, include_total_size=True)
    left = (await side.ask("ListKeys", counting)).total_size // 2
    step = pb.ListKeysRequest()
    step.CopyFrom(request)
    while left > 0:
        step.page_size = min(1000, left)
        page = await side.ask("ListKeys", step)
        left -= len(page.keys)
        step.page_token = page.next_page_token
    request.page_token = step.page_token


@contextmanager
def _beside_the_service() -> Iterator[None]:
    """Leave the first core to the services: for this process, and for PostgreSQL, which inherits it."""
    os.sched_setaffinity(0, _CORES[1:] or _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


@asynccontextmanager
async def _filled(postgres: DevPostgres, name: str, keys: int) -> AsyncIterator[_Side]:
    """Yield a database with so many keys, a hundredth as many owners, and its service."""
    admin = await asyncpg.connect(postgres.url_for("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE bench_{name}")
    finally:
        await admin.close()
    url = postgres.url_for(f"bench_{name}")
    await migrate(url)
    await key_rows.fill(url, keys)
    settings = load_settings(listen="127.0.0.1:0", database_url=SecretStr(url), scopes="*")
    async with app.administering(settings) as administered:
        minted = await administered.ensure_administrator()
        assert minted is not None
    async with (
        server.running(url, core=_CORES[0]) as process,
        grpc.aio.insecure_channel(process.address) as channel,
    ):
        owners = keys // 100
        metadata = (("authorization", f"Bearer {minted.text}"),)
        side = _Side(KeyServiceStub(channel), metadata, owners, count(owners - 2, -1))
        [one] = (await side.ask("ListKeys", pb.ListKeysRequest(owner_id=LARGEST, page_size=1))).keys
        assert one.owner_id == LARGEST
        yield side
