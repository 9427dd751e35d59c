"""What response times reveal, and the cost of authenticating the caller and recording its actions.

Time: one client requests ids and key strings that do not exist, belong to another owner, or are revoked.
It requests them one at a time in random order, so that noise affects all kinds. Each is requested once
cold; key strings are then requested once more, from memory.

Cost: VerifyKey by a caller with its own key against one by a caller without a credential, in the
same process; CreateKey against the SQL statements that it sends, which are recorded once and replayed
with other ids.
"""

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import sqrt
from statistics import median, quantiles
from typing import Any, TypeAlias
from unittest import mock

import asyncpg
import grpc

from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import KeyMint
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.verify.verifier import Question
from tests.bench import server
from tests.bench.bench import Bench, say
from tests.bench.h2load import Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtLeast, AtMost, Row

_PART = "access"
# The distance that two samples of one distribution exceed in one case of a hundred (Kolmogorov, Smirnov).
_CRITICAL = 1.63
_MINE, _THEIRS = "acme", "globex"
_SCOPES = ("orders:read", "orders:write", "reports:read")
_AT_ONCE, _CONNECTIONS = 32, 10
# Placeholders for the owner, the id and the prefix of a key in statements that are replayed.
_OWNER, _ID, _PREFIX = "<owner>", "<key_id>", "<key_prefix>"
Statement: TypeAlias = tuple[str, tuple[Any, ...]]
Times = Mapping[str, Sequence[float]]


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about what response times reveal, and about the cost of callers and events."""
    return [*await _timing(bench), await _callers(bench), *await _creation(bench)]


async def _timing(bench: Bench) -> list[Row]:
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
        # The caller has the whole string. The time reveals that it is proved, once per worker.
        *_rows("VerifyKey, cold", cold, None),
        *_rows("VerifyKey, warm", warm, AtMost(1)),
    ]


async def _callers(bench: Bench) -> Row:
    rounds, requests = (3, 3_000) if bench.quick else (7, 8_000)
    caller = await _mint(bench, "authsvc", ("keys:verify",))
    key_string = await _mint(bench, _MINE, ("orders:read",))
    request = pb.VerifyKeyRequest(
        key_string=key_string, required_scopes=("orders:read",), client_ip="192.0.2.7"
    )
    say(f"access: {rounds} rounds of {requests} RPCs by a caller with a key and by one without")
    async with server.running(bench.database_url, server.ANONYMOUS) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            for metadata in (bench.as_caller(caller), ()):
                assert (await KeyServiceStub(channel).VerifyKey(request, metadata=metadata)).valid
        loads = {
            "with": Load(process.address, server.VERIFY, request.SerializeToString(), caller),
            "without": Load(process.address, server.VERIFY, request.SerializeToString(), ""),
        }
        before = await process.counts()
        rates = await in_turns({name: partial(it.rate, requests) for name, it in loads.items()}, rounds)
        # With a caller's key there are two verdicts, without a credential one.
        hold_counts(before, await process.counts(), "authsvc_verdicts_total VALID", rounds * requests * 3)
    one, other = (f"{median(rates[side]):,.0f}/s {side}" for side in loads)
    what = "warm VerifyKey with a caller's key to check against one without"
    return Row(_PART, what, one, other, ratio(rates["with"], rates["without"]), AtLeast(0.85))


async def _creation(bench: Bench) -> list[Row]:
    rounds, count = (3, 300) if bench.quick else (7, 1_000)
    new = NewKey(owner_id=_MINE, display_name="x", scopes=_SCOPES)
    platform = await _mint(bench, "authsvc", ("full_access",))
    caller = await _authenticated(bench, platform)
    statements = await _taken_down(bench, caller, new)
    unrecorded = [said for said in statements if "record_audit" not in said[0]]
    assert len(unrecorded) == len(statements) - 1

    async def create() -> float:
        # From many owners, since changes of one owner are serialized.
        remaining = iter(range(count))

        async def some() -> None:
            for number in remaining:
                await bench.app.keys.create(caller, replace(new, owner_id=f"owner-{number}"))

        started = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        return count / (time.perf_counter() - started)

    connections = [await asyncpg.connect(bench.database_url) for _ in range(_CONNECTIONS)]
    try:

        async def bare(statements: Sequence[Statement]) -> float:
            remaining = iter([_again(statements, number) for number in range(count)])

            async def some(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
                for said in remaining:
                    for query, arguments in said:
                        await (connection.fetch if arguments else connection.execute)(query, *arguments)

            started = time.perf_counter()
            await asyncio.gather(*map(some, connections))
            return count / (time.perf_counter() - started)

        say(f"access: {rounds} rounds of {count} CreateKey, and of its {len(statements)} statements")
        for warm_up in (create, partial(bare, statements), partial(bare, unrecorded)):
            await warm_up()
        rates = await in_turns(
            {
                "CreateKey": create,
                "bare": partial(bare, statements),
                "unrecorded": partial(bare, unrecorded),
            },
            rounds,
        )
    finally:
        for each in connections:
            await each.close()
    shown = {side: f"{median(rates[side]):,.0f}/s" for side in rates}
    return [
        Row(
            _PART,
            f"CreateKey without gRPC, {_AT_ONCE} at once, against its bare statements",
            shown["CreateKey"],
            f"{shown['bare']} on {_CONNECTIONS} connections",
            ratio(rates["CreateKey"], rates["bare"]),
        ),
        Row(
            _PART,
            "its statements with the audit event against those without",
            shown["bare"],
            shown["unrecorded"],
            ratio(rates["bare"], rates["unrecorded"]),
        ),
    ]


async def _taken_down(bench: Bench, caller: Caller, new: NewKey) -> list[Statement]:
    """Return the statements of CreateKey for PostgreSQL, with placeholders for owner, id and prefix."""
    said: list[Statement] = []

    def listening(name: str) -> Any:
        speak = getattr(asyncpg.Connection, name)

        async def heard(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
            said.append((query, arguments))
            return await speak(self, query, *arguments, **options)

        return mock.patch.object(asyncpg.Connection, name, heard)

    with ExitStack() as stack:
        for name in ("execute", "fetch", "fetchrow", "fetchval"):
            stack.enter_context(listening(name))
        key, _ = await bench.app.keys.create(caller, new)
    marks = {key.owner_id: _OWNER, key.key_id: _ID, key.key_prefix: _PREFIX}
    return [(query, tuple(_replaced(argument, marks) for argument in arguments)) for query, arguments in said]


def _again(statements: Sequence[Statement], number: int) -> list[Statement]:
    """Return the statements for another key."""
    fresh = new_identifier("key", datetime.now(UTC))
    marks = {_OWNER: f"owner-{number}", _ID: fresh, _PREFIX: f"authsvc_live_{fresh}"}
    return [
        (query, tuple(_replaced(argument, marks) for argument in arguments))
        for query, arguments in statements
    ]


def _replaced(argument: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(argument, str):
        for old, new in texts.items():
            argument = argument.replace(old, new)
    return argument


async def _authenticated(bench: Bench, key_string: str) -> Caller:
    verdict = await bench.app.verifier.verify(Question(None, None), key_string)
    assert verdict.credential is not None
    known = verdict.credential
    return Caller(known.credential_id, known.owner_id, known.scopes, known.kind)


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
    """Request one of each kind in turns, in random order; return the microseconds of each."""
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
    """Return the largest distance between two empirical distribution functions, from 0 to 1."""
    sides = sorted(one), sorted(other)
    return max(
        abs(bisect_right(sides[0], at) / len(one) - bisect_right(sides[1], at) / len(other))
        for at in (*one, *other)
    )
