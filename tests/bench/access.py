"""What the time of an answer tells: ids and key strings of nobody, of another owner, and revoked ones.

One client asks one by one, in turns, so that a noisy moment hits all kinds. Each id and
string is asked for once cold; key strings then once more, from memory.
"""

import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import sqrt
from statistics import median, quantiles
from typing import Any

import asyncpg
import grpc

from authsvc.model.caller import BOOTSTRAP
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import KeyMint
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from tests.bench.bench import Bench, say
from tests.bench.table import AtMost, Row

_PART = "access"
# By how much two samples from one distribution are apart in one case of a hundred (Kolmogorov, Smirnov).
_CRITICAL = 1.63
_MINE, _THEIRS = "acme", "globex"
Times = Mapping[str, Sequence[float]]


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about what the time of an answer tells."""
    count = 500 if bench.quick else 2_000
    say(f"access: {count:,} ids and key strings of nobody, of another owner, and revoked ones")
    keys = bench.app.keys
    caller = await _mint(bench, _MINE, ("keys:read", "keys:verify"))
    ids: dict[str, list[str]] = {"foreign": [], "revoked": []}
    strings: dict[str, list[str]] = {"foreign": [], "revoked": []}
    for kind, owner_id in (("foreign", _THEIRS), ("revoked", _MINE)):
        for number in range(count):
            key, minted = await keys.create(BOOTSTRAP, NewKey(owner_id=owner_id, display_name=f"{number}"))
            ids[kind].append(key.key_id)
            strings[kind].append(minted.text)
    for at in range(0, count, 100):
        await keys.revoke_batch(BOOTSTRAP, ids["revoked"][at : at + 100], reason="")
    mint = await _service_mint(bench.database_url)
    ids["unknown"] = [new_identifier("key", datetime.now(UTC)) for _ in range(count)]
    strings["unknown"] = [mint.mint("authsvc", "live").text for _ in range(count)]
    async with grpc.aio.insecure_channel(bench.server.address) as channel:
        metadata = bench.as_caller(caller)
        get: Any = channel.unary_unary("/authsvc.v1.KeyService/GetKey")
        verify: Any = channel.unary_unary("/authsvc.v1.KeyService/VerifyKey")

        async def read(key_id: str) -> None:
            try:
                await get(pb.GetKeyRequest(key_id=key_id).SerializeToString(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        async def judge(key_string: str) -> None:
            answer = await verify(
                pb.VerifyKeyRequest(key_string=key_string).SerializeToString(), metadata=metadata
            )
            assert not pb.VerifyKeyResponse.FromString(answer).valid

        for _ in range(200):
            await read(ids["revoked"][0])
        reading = await _times(read, ids)
        cold = await _times(judge, strings)
        warm = await _times(judge, strings)
    return [
        *_rows("GetKey", reading, AtMost(1)),
        # Who shows another's string has the whole of it. That it is proved shows in the time, once a worker.
        *_rows("VerifyKey, cold", cold, None),
        *_rows("VerifyKey, warm", warm, AtMost(1)),
    ]


async def _mint(bench: Bench, owner_id: str, scopes: tuple[str, ...]) -> str:
    new = NewKey(owner_id=owner_id, display_name="caller", scopes=scopes)
    return (await bench.app.keys.create(BOOTSTRAP, new))[1].text


async def _service_mint(database_url: str) -> KeyMint:
    connection = await asyncpg.connect(database_url)
    try:
        return KeyMint(await connection.fetchval("SELECT tag_key FROM authsvc.tag_keys"))
    finally:
        await connection.close()


async def _times(ask: Callable[[str], Awaitable[None]], asked: Mapping[str, Sequence[str]]) -> Times:
    """Ask for one of each kind in turns, in any order; return the microseconds of each."""
    taken: dict[str, list[float]] = {kind: [] for kind in asked}
    order = random.Random(0)  # noqa: S311 - only what comes first differs
    for together in zip(*asked.values(), strict=True):
        for kind, one in order.sample(list(zip(asked, together, strict=True)), len(asked)):
            started = time.perf_counter()
            await ask(one)
            taken[kind].append((time.perf_counter() - started) * 1e6)
    return taken


def _rows(what: str, times: Times, aim: AtMost | None) -> list[Row]:
    shown = {
        kind: f"{median(each):,.0f} µs, p99 {quantiles(each, n=100)[98]:,.0f} {kind}"
        for kind, each in times.items()
    }
    unknown, foreign, revoked = (times[kind] for kind in ("unknown", "foreign", "revoked"))
    critical = _CRITICAL * sqrt(2 / len(unknown))
    return [
        Row(
            _PART,
            f"{what}: how far the distributions are apart, in what chance allows",
            shown["unknown"],
            shown["foreign"],
            _distance(unknown, foreign) / critical,
            aim,
        ),
        Row(
            _PART,
            f"{what}: the same",
            shown["unknown"],
            shown["revoked"],
            _distance(unknown, revoked) / critical,
        ),
    ]


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest distance between two empirical distribution functions, 0 to 1."""
    sides = sorted(one), sorted(other)
    return max(
        abs(bisect_right(sides[0], at) / len(one) - bisect_right(sides[1], at) / len(other))
        for at in (*one, *other)
    )
