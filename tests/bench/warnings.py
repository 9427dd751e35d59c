"""VerifyKey while the contacts of 100,000 keys are warned, which all expire in the same week.

One service and its notifier have one core. PostgreSQL, the load and a mail server that accepts everything
share the others. The walk over the keys is held and let go in turns. While it goes, the notifier finds the
keys, writes the warnings and who is to be told, and mails. Nine of ten keys have a contact of their owner,
which has a hundred keys; the tenth part has one contact together.
"""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.notifications.warnings import BATCH_KEYS, MAX_WARNED_KEYS
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench import notifier, server
from tests.bench.bench import POSTGRES, say
from tests.bench.h2load import Load, hold_counts
from tests.bench.receivers import receiving
from tests.bench.rounds import ratio
from tests.bench.server import VERIFY
from tests.bench.table import AtLeast, AtMost, Row

_PART = "warnings"
_CORES = sorted(os.sched_getaffinity(0))
_SCOPES = ("orders:read", "orders:write", "reports:read")
# A week is 604,800 seconds; the first keys expire in a day and a half, so that all are within seven days.
_FILL = """
    WITH inserted AS (
        INSERT INTO authsvc.keys (
            key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description,
            scopes, technical_contacts, annotations, create_time, creator_id, update_time, expire_time,
            revoker_id, revoke_reason, rotated_from_key_id, rotated_to_key_id, version)
        SELECT 'key_' || md5(i::text), 'owner-' || i / 100, 'bench_live_' || substr(md5('x' || i), 1, 18),
               '$argon2id$', 'minted', 'Orders ' || i, 'orders ' || i, '', ARRAY['orders:read'],
               jsonb_build_array(jsonb_build_object('name', 'On call', 'email',
                   CASE i % 10 WHEN 0 THEN 'all@example.com' ELSE 'team-' || i / 100 || '@example.com' END)),
               '{}', $2::timestamptz - interval '300 days', 'key_0', $2,
               $2 + interval '36 hours' + interval '1 second' * (i * 7919 % 470000), '', '', '', '', 1
          FROM generate_series(1, $1::integer) AS i
        RETURNING key_id, owner_id)
    INSERT INTO authsvc.key_uses (key_id, owner_id, last_use_time) SELECT key_id, owner_id, $2 FROM inserted
"""
_HOLD = "UPDATE authsvc.jobs SET next_time = 'infinity' WHERE job = 'key_warnings'"
_LET_GO = "UPDATE authsvc.jobs SET next_time = '-infinity' WHERE job = 'key_warnings'"
_WARNED = "SELECT count(*) FROM authsvc.key_warnings"
_WAITING = """
    SELECT (SELECT count(*) FROM authsvc.notifications WHERE spread_time IS NULL)
         + (SELECT count(*) FROM authsvc.mails WHERE state = 'pending' AND next_time <= now())
"""
# Of the keys that one transaction warned of. Nothing changes the rows later.
_LARGEST = "SELECT max(count) FROM (SELECT count(*) FROM authsvc.key_warnings GROUP BY xmin::text) AS each"


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about warnings."""
    keys, rounds, requests = (10_000, 3, 20_000) if quick else (100_000, 9, 40_000)
    with _beside_the_service(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with DevPostgres(Path(directory) / "postgres", settings=POSTGRES) as postgres:
            await migrate(postgres.url)
            say(f"warnings: {keys:,} keys are inserted")
            connection = await asyncpg.connect(postgres.url)
            try:
                await connection.execute(_FILL, keys, datetime.now(UTC), timeout=600)
                await connection.execute("VACUUM ANALYZE", timeout=600)
                await connection.execute(_HOLD)
                return await _warned(postgres.url, connection, keys, rounds, requests)
            finally:
                await connection.close()


async def _warned(
    url: str, connection: "asyncpg.Connection[Any]", keys: int, rounds: int, requests: int
) -> list[Row]:
    async with receiving() as receivers:
        settings = {
            "AUTHSVC_SMTP_URL": f"smtp://127.0.0.1:{receivers.mail_port}",
            "AUTHSVC_MAIL_FROM": "authsvc@example.com",
            "AUTHSVC_DEFAULT_ROTATION_PERIOD": "0",
        }
        async with (
            server.running(url, core=_CORES[0], settings=settings) as process,
            notifier.running(url, core=_CORES[0], settings=settings) as notifier_pid,
        ):
            load = await _load(url, process)
            await load.rate(requests)  # all code and all connections are in use
            pids = (process.pid, notifier_pid)
            before = _resident(pids)
            say(f"warnings: {rounds} rounds of {requests:,} RPCs while warnings are written, and while not")
            counted = await process.counts()
            rates: dict[str, list[float]] = {"warning": [], "without": []}
            went, sizes = 0.0, [before]
            for number in range(rounds):
                # Each is first in every other round.
                for side in ("warning", "without") if number % 2 else ("without", "warning"):
                    if side == "without":
                        await _quiet(connection)
                        rates[side].append(await load.rate(requests))
                        continue
                    started = await _let_go(connection)
                    rates[side].append(await load.rate(requests))
                    went += time.perf_counter() - started
                    await connection.execute(_HOLD)
                    sizes.append(_resident(pids))
            hold_counts(
                counted, await process.counts(), "authsvc_verdicts_total VALID", 4 * rounds * requests
            )
            under_load = await connection.fetchval(_WARNED)
            if under_load >= keys:
                raise RuntimeError(f"all {keys:,} keys were warned of before the last round; use more keys")
            say(f"warnings: {under_load:,} were written in {went:.1f} s under load; the others go without")
            worked, started = _worked(notifier_pid), await _let_go(connection)
            said = under_load
            while (warned := await connection.fetchval(_WARNED)) < keys:
                if warned - said >= keys / 10:
                    said = warned
                    say(f"warnings: {warned:,} of {keys:,} keys are warned of")
                sizes.append(_resident(pids))
                await asyncio.sleep(0.5)
            alone = time.perf_counter() - started
            await _quiet(connection)
            worked = _worked(notifier_pid) - worked
            sizes.append(_resident(pids))
            largest = await connection.fetchval(_LARGEST)
            told = await connection.fetchval("SELECT count(*) FROM authsvc.mails")
            left = keys - under_load
        messages, _ = await receivers.counts()
    if told != keys:
        raise RuntimeError(f"{told:,} mails for {keys:,} warnings")
    return [
        Row(
            _PART,
            f"VerifyKey while {keys:,} keys are warned of, against without",
            f"{median(rates['warning']):,.0f}/s, {under_load / went:,.0f} warnings/s",
            f"{median(rates['without']):,.0f}/s",
            ratio(rates["warning"], rates["without"]),
            AtLeast(0.95),
        ),
        Row(
            _PART,
            f"memory of the worker and the notifier, the most against before; {messages:,} messages arrived",
            f"{max(sizes) / 2**20:.1f} MiB",
            f"{before / 2**20:.1f} MiB",
            max(sizes) / before,
            AtMost(1.1),
        ),
        Row(
            _PART,
            f"keys that one transaction warned of, of {BATCH_KEYS} that it may look at",
            f"{largest}",
            f"{MAX_WARNED_KEYS}",
            largest / MAX_WARNED_KEYS,
            AtMost(1),
        ),
        Row(
            _PART,
            f"a walk that warns of {left:,} keys, without load, in seconds",
            f"{alone:.1f} s",
            f"{left / alone:,.0f} warnings/s",
            alone,
        ),
        Row(
            _PART,
            "time of the processor for a warning in the notifier, with its message, in ms",
            f"{worked:.1f} s",
            f"{left:,} warnings",
            worked / left * 1000,
        ),
    ]


async def _load(url: str, process: server.Process) -> Load:
    """Create a caller and a key, and verify the key once; return the load."""
    given = load_settings(listen="127.0.0.1:0", database_url=SecretStr(url), scopes="*")
    async with app.administering(given) as keys:
        minted = await keys.ensure_administrator()
        assert minted is not None
    metadata = (("authorization", f"Bearer {minted.text}"),)
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub = KeyServiceStub(channel)

        async def mint(name: str, scopes: tuple[str, ...]) -> str:
            request = pb.CreateKeyRequest(owner_id="acme", display_name=name, scopes=scopes)
            return (await stub.CreateKey(request, metadata=metadata)).key_string

        caller, key = await mint("gateway", ("keys:verify",)), await mint("client", _SCOPES)
        request = pb.VerifyKeyRequest(key_string=key, required_scopes=("orders:read",), client_ip="192.0.2.7")
        assert (await stub.VerifyKey(request, metadata=(("authorization", f"Bearer {caller}"),))).valid
    return Load(process.address, VERIFY, request.SerializeToString(), caller)


async def _let_go(connection: "asyncpg.Connection[Any]") -> float:
    """Have the walk go on; return when it did."""
    before = await connection.fetchval(_WARNED)
    await connection.execute(_LET_GO)
    await _until(connection, _WARNED, lambda count: count > before)
    return time.perf_counter()


async def _quiet(connection: "asyncpg.Connection[Any]") -> None:
    """Hold the walk, and wait until all that it has written is sent."""
    await connection.execute(_HOLD)
    await _until(connection, _WAITING, lambda count: count == 0)


async def _until(
    connection: "asyncpg.Connection[Any]", query: str, holds: Callable[[int], bool], seconds: float = 0.05
) -> None:
    """Ask the database again and again."""
    while True:
        if holds(await connection.fetchval(query)):
            return
        await asyncio.sleep(seconds)


@contextmanager
def _beside_the_service() -> Iterator[None]:
    """Leave the first core to the service."""
    os.sched_setaffinity(0, _CORES[1:] or _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def _worked(pid: int) -> float:
    """Return the seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pids: Sequence[int]) -> int:
    """Return the bytes of memory that processes have together."""
    lines = "".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(found) * 1024 for found in re.findall(r"^VmRSS:\s+(\d+) kB$", lines, re.MULTILINE))
