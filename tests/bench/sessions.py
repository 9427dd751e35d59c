"""Sessions: verification from memory, sign-ins, sign-outs, and the cost of writing activity.

PostgreSQL waits for its disk at each commit, like that of a deployment. h2load generates the load on
verification and on sign-ins; the server has one worker.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import asyncpg
import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, KeyMint
from authsvc.process.devpg import DevPostgres
from authsvc.rpc.session_service import SessionService
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2, session_service_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.bench import activity, server, session_rows
from tests.bench.bench import say
from tests.bench.h2load import Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import CREATE_SESSION, NULL, VERIFY, VERIFY_SESSION
from tests.bench.table import AtLeast, AtMost, Row

if TYPE_CHECKING:
    from authsvc.v1.session_service_pb2_grpc import SessionServiceAsyncStub

_PART = "sessions"
_SCOPES = ("orders:read", "orders:write", "reports:read")
# Connections, and RPCs in flight on each, for sign-ins.
_SIGN_INS = (4, 8)
_OF_MANY = 10_000
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class _Parts:
    quick: bool
    url: str
    process: server.Process
    stub: "SessionServiceAsyncStub"
    admin_key: str
    caller: str
    api_key: str
    pool_size: int

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return (("authorization", f"Bearer {self.admin_key}"),)


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about sessions."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        # The commit settings are PostgreSQL's defaults.
        async with DevPostgres(Path(directory) / "postgres", settings={"max_wal_size": "4GB"}) as postgres:
            await migrate(postgres.url)
            given = load_settings(listen="127.0.0.1:0", database_url=SecretStr(postgres.url), scopes="*")
            async with app.administering(given) as keys:
                minted = await keys.ensure_administrator()
                assert minted is not None
            async with (
                server.running(postgres.url) as process,
                grpc.aio.insecure_channel(process.address) as channel,
            ):
                metadata = (("authorization", f"Bearer {minted.text}"),)

                async def mint(name: str, scopes: tuple[str, ...]) -> str:
                    request = key_service_pb2.CreateKeyRequest(
                        owner_id="acme", display_name=name, scopes=scopes
                    )
                    return (await KeyServiceStub(channel).CreateKey(request, metadata=metadata)).key_string

                parts = _Parts(
                    quick,
                    postgres.url,
                    process,
                    SessionServiceStub(channel),
                    minted.text,
                    await mint("gateway", ("keys:verify", "sessions:verify", "sessions:write", *_SCOPES)),
                    await mint("client", _SCOPES),
                    given.database_pool_size,
                )
                rows = [await _verification(parts)]
                async with app.running(given) as worker:
                    rows += await _sign_ins(parts, worker)
                rows.append(await _logging_out(parts))
            return rows + await activity.measure(postgres.url, quick=quick)


def _new_session() -> session_service_pb2.CreateSessionRequest:
    return session_service_pb2.CreateSessionRequest(
        owner_id="acme", user_agent=session_rows.USER_AGENT, ip_address="192.0.2.7", scopes=_SCOPES
    )


async def _verification(parts: _Parts) -> Row:
    """Verify one key and one session, both in memory, with requests as a program sends them."""
    rounds, requests = (3, 3_000) if parts.quick else (7, 8_000)
    created = await parts.stub.CreateSession(_new_session(), metadata=parts.metadata)
    key = key_service_pb2.VerifyKeyRequest(
        key_string=parts.api_key, required_scopes=("orders:read",), client_ip="192.0.2.7"
    )
    session = session_service_pb2.VerifySessionRequest(
        session_token=created.session_token,
        required_scopes=("orders:read",),
        client_ip="192.0.2.7",
        user_agent=session_rows.USER_AGENT,
    )
    as_caller = (("authorization", f"Bearer {parts.caller}"),)
    async with grpc.aio.insecure_channel(parts.process.address) as channel:
        assert (await KeyServiceStub(channel).VerifyKey(key, metadata=as_caller)).valid
    assert (await parts.stub.VerifySession(session, metadata=as_caller)).valid
    address = parts.process.address
    loads = {
        "VerifySession": Load(address, VERIFY_SESSION, session.SerializeToString(), parts.caller),
        "VerifyKey": Load(address, VERIFY, key.SerializeToString(), parts.caller),
    }
    say(f"sessions: {rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
    before = await parts.process.counts()
    rates = await in_turns({name: partial(load.rate, requests) for name, load in loads.items()}, rounds)
    after = await parts.process.counts()
    hold_counts(before, after, "authsvc_verdicts_total VALID", rounds * requests * 4)
    one, other = (f"{median(rates[name]):,.0f}/s {name}" for name in loads)
    what = "warm VerifySession against warm VerifyKey"
    return Row(_PART, what, one, other, ratio(rates["VerifySession"], rates["VerifyKey"]), AtLeast(0.9))


async def _sign_ins(parts: _Parts, worker: app.App) -> list[Row]:
    """Create sessions, and insert rows like theirs that are prepared before the clock starts.

    By RPC, and by the code behind the RPC without gRPC, since a null RPC of one worker is
    already slower than half of the INSERTs.
    """
    rounds, count = (3, 2_000) if parts.quick else (7, 5_000)
    in_flight = _SIGN_INS[0] * _SIGN_INS[1]
    request = _new_session()
    created = await parts.stub.CreateSession(request, metadata=parts.metadata)
    load = Load(parts.process.address, CREATE_SESSION, request.SerializeToString(), parts.caller, _SIGN_INS)
    alone = Load(parts.process.address, CREATE_SESSION, request.SerializeToString(), parts.caller, (1, 1))
    nothing = key_service_pb2.VerifyKeyRequest(key_string=parts.api_key)
    null = Load(parts.process.address, NULL, nothing.SerializeToString(), parts.caller, _SIGN_INS)
    connections = [await asyncpg.connect(parts.url) for _ in range(parts.pool_size)]
    try:
        names = session_rows.COLUMNS
        inserts = [await each.prepare(session_rows.INSERT) for each in connections]
        template = await connections[0].fetchrow(
            "SELECT * FROM authsvc.sessions WHERE session_id = $1", created.session.session_id
        )
        assert template is not None
        mint = KeyMint(b"")

        def another() -> list[object]:
            fresh = {
                "session_id": new_identifier("ses", datetime.now(UTC)),
                "key_prefix": mint.mint("authsvc", SESSION).prefix,
            }
            return [fresh.get(name, template[name]) for name in names]

        async def insert(
            statement: "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]",
            remaining: Iterator[list[object]],
        ) -> None:
            for row in remaining:
                await statement.fetch(*row)

        service = SessionService(worker.sessions, worker.verifier, worker.locations, worker.clock)

        async def create(remaining: Iterator[int]) -> None:
            for _ in remaining:
                await service.CreateSession(BOOTSTRAP, request)

        async def in_process() -> float:
            remaining = iter(range(count))
            started = time.perf_counter()
            await asyncio.gather(*(create(remaining) for _ in range(in_flight)))
            return count / (time.perf_counter() - started)

        async def bare() -> float:
            remaining = iter([another() for _ in range(count)])
            started = time.perf_counter()
            await asyncio.gather(*(insert(statement, remaining) for statement in inserts))
            return count / (time.perf_counter() - started)

        async def bare_alone() -> float:
            remaining = [another() for _ in range(count // 5)]
            started = time.perf_counter()
            await insert(inserts[0], iter(remaining))
            return len(remaining) / (time.perf_counter() - started)

        say(f"sessions: {rounds} rounds of {count} sign-ins, {in_flight} in flight, and of bare INSERTs")
        await bare()
        await in_process()
        await load.rate(500)
        before = await parts.process.counts()
        rates = await in_turns(
            {
                "in process": in_process,
                "bare": bare,
                "CreateSession": partial(load.rate, count),
                "null": partial(null.rate, count),
            },
            rounds,
        )
        one_by_one = await in_turns(
            {"CreateSession": partial(alone.rate, count // 5), "bare": bare_alone}, rounds
        )
        after = await parts.process.counts()
    finally:
        for each in connections:
            await each.close()
    hold_counts(before, after, "authsvc_rpc_seconds_count CreateSession", rounds * (count + count // 5))
    created_rate = f"{median(rates['CreateSession']):,.0f}/s"
    bare_rate = f"{median(rates['bare']):,.0f}/s on {parts.pool_size} connections"
    return [
        Row(
            _PART,
            f"CreateSession without gRPC, {in_flight} at once, against the bare INSERT",
            f"{median(rates['in process']):,.0f}/s",
            bare_rate,
            ratio(rates["in process"], rates["bare"]),
            AtLeast(0.5),
        ),
        Row(
            _PART,
            f"CreateSession, {in_flight} in flight to one worker, against the bare INSERT",
            created_rate,
            bare_rate,
            ratio(rates["CreateSession"], rates["bare"]),
            AtLeast(0.5),
        ),
        Row(
            _PART,
            "a null RPC of the same kind against the bare INSERT",
            f"{median(rates['null']):,.0f}/s",
            bare_rate,
            ratio(rates["null"], rates["bare"]),
        ),
        Row(
            _PART,
            "CreateSession, one after the other, against the bare INSERT",
            f"{median(one_by_one['CreateSession']):,.0f}/s",
            f"{median(one_by_one['bare']):,.0f}/s",
            ratio(one_by_one["CreateSession"], one_by_one["bare"]),
        ),
    ]


async def _logging_out(parts: _Parts) -> Row:
    """End all sessions of owners with a large number of sessions, in turns with one session of others."""
    rounds, warm = (5, 500) if parts.quick else (15, 3_000)
    say(f"sessions: {rounds} owners with {_OF_MANY:,} sessions, {warm:,} of them in memory")
    connection = await asyncpg.connect(parts.url)
    try:
        mint = await session_rows.mint(connection)
        owners = [f"many-{number:02}" for number in range(rounds)]
        tokens: dict[str, list[str]] = {}
        for owner_id in owners:
            tokens[owner_id] = [
                made.token for made in await session_rows.insert(connection, mint, [owner_id] * warm)
            ]
            await session_rows.generate(connection, owner_id, _OF_MANY - warm)
        single = await session_rows.insert(connection, mint, [f"one-{number:02}" for number in range(rounds)])
        await connection.execute("VACUUM ANALYZE authsvc.sessions")
    finally:
        await connection.close()

    async def verify(remaining: Iterator[str], valid: bool) -> None:
        for token in remaining:
            request = session_service_pb2.VerifySessionRequest(session_token=token)
            answer = await parts.stub.VerifySession(request, metadata=parts.metadata)
            assert answer.valid is valid

    taken: dict[str, list[float]] = {"all": [], "one": []}
    for owner_id, one in zip(owners, single, strict=True):
        remaining = iter([*tokens[owner_id], one.token])
        await asyncio.gather(*(verify(remaining, True) for _ in range(_AT_ONCE)))
        every = session_service_pb2.RevokeAllSessionsRequest(owner_id=owner_id)
        started = time.perf_counter()
        answer = await parts.stub.RevokeAllSessions(every, metadata=parts.metadata)
        taken["all"].append((time.perf_counter() - started) * 1000)
        assert answer.revoked_count == _OF_MANY
        started = time.perf_counter()
        await parts.stub.RevokeSession(
            session_service_pb2.RevokeSessionRequest(session_id=one.session_id), metadata=parts.metadata
        )
        taken["one"].append((time.perf_counter() - started) * 1000)
        await verify(iter([tokens[owner_id][0], tokens[owner_id][-1], one.token]), False)
    return Row(
        _PART,
        f"RevokeAllSessions of {_OF_MANY:,}, {warm:,} in memory, against RevokeSession of one",
        f"{median(taken['all']):.1f} ms",
        f"{median(taken['one']):.1f} ms",
        ratio(taken["all"], taken["one"]),
        AtMost(5),
    )
