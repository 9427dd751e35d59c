"""The memory of a cached key or session, and proof that the cache stops growing at its capacity.

Runs in its own process, where nothing else grows. The verifier, the cache and the
store are real. Only the rows are made up, and argon2 is skipped, since
neither leaves anything in memory.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from math import inf
from pathlib import Path
from typing import cast
from uuid import UUID

from authsvc.model.feed import Place
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, KeyMint
from authsvc.store.activity import ActivityStore
from authsvc.store.key_usage import KeyUsageStore
from authsvc.store.pool import Database
from authsvc.store.verification import VerificationStore
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.hasher import MINTED, Hasher
from authsvc.verify.key_uses import KeyUseLog
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.session_digest import session_digest
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Verifier
from tests.bench.bench import say
from tests.bench.table import AtMost, Row

_PART = "memory"
_STATM = Path("/proc/self/statm")
_TAG_KEY = b"0" * 32
_ANNOTATIONS = json.dumps({"team": "payments", "cost-center": "eu-4711"})


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about memory; none where the system does not report resident memory."""
    if sys.platform != "linux":
        say("memory: left out, since only Linux has /proc/self/statm")
        return []
    capacity = 20_000 if quick else 200_000
    say(f"memory: {capacity:,} cached keys, with annotations and without, and as many sessions")
    plain, annotated = await asyncio.gather(
        _in_a_process(capacity, "{}"), _in_a_process(capacity, _ANNOTATIONS)
    )
    session = await _in_a_process(capacity, "{}", SESSION)
    return [
        _size(capacity, "key with 3 scopes, an expiry", plain),
        _size(capacity, "key with that and 2 annotations", annotated),
        _size(capacity, "session with 3 scopes, used once", session),
        Row(
            _PART,
            "keys in memory after one more than the capacity",
            f"{annotated['kept']:,}",
            f"{capacity:,} capacity",
            annotated["kept"] / capacity,
            AtMost(1),
        ),
    ]


def _size(capacity: int, told: str, measured: dict[str, int]) -> Row:
    each = measured["bytes"] / capacity
    what = f"a cached {told}, against 1 KiB"
    return Row(_PART, what, f"{each:,.0f} bytes", f"1,024 bytes, {capacity:,} keys", each / 1024, AtMost(1))


async def _in_a_process(capacity: int, annotations: str, environment: str = "live") -> dict[str, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.memory", str(capacity), annotations, environment),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    measured: dict[str, int] = json.loads(output)
    return measured


class MadeUpRows:
    """A connection on which every row exists, with separate strings for each as asyncpg creates them."""

    def __init__(self, annotations: str, environment: str) -> None:
        self._annotations = annotations.encode()
        self._is_session = environment == SESSION
        self._numbers = count()
        self.secret = ""  # of the next requested session; that of a key is not checked

    async def fetch(self, _: str, key_prefixes: list[str]) -> list[dict[str, object]]:
        return [self._row(key_prefix) for key_prefix in key_prefixes]

    def _row(self, key_prefix: str) -> dict[str, object]:
        now, number = datetime.now(UTC), next(self._numbers)
        # Five thousand combinations of scopes, so that most tuples of them are shared and many are not.
        here, there = number % 50, number // 50 % 100
        return {
            "key_prefix": key_prefix,
            "kind": "session" if self._is_session else "key",
            "credential_id": new_identifier("ses" if self._is_session else "key", now),
            "last_activity_time": now + timedelta() if self._is_session else None,
            "idle_timeout": timedelta(days=7) if self._is_session else None,
            "owner_id": f"customer-{number:06}",
            "scopes": [f"service{here}:read", f"service{here}:write", f"service{there}:read"],
            "expire_time": now + timedelta(days=365),
            "revoke_time": None,
            "revoked_at_once": None,
            "annotations": self._annotations.decode(),
            "keys_enabled": None,
            "disable_time": None,
            "disabled_until": None,
            "allowed_networks": [],
            "owner_networks": None,
            "rate_limits": "[]",
            "owner_rate_limits": None,
            "budget_id": "",
            "credit_account_id": None,
            "credit_epoch": None,
            "secret_hash": session_digest(self.secret),
            "secret_origin": MINTED,
            "seq": 0,
            "nonce": _NONCE,
        }


_NONCE = UUID(int=0)


class _MadeUpDatabase:
    def __init__(self, rows: MadeUpRows) -> None:
        self._rows = rows

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[MadeUpRows]:
        yield self._rows


class _Trusting(Hasher):
    """Accepts every proof."""

    async def verify(self, secret: str, secret_hash: str) -> bool:
        return True

    def is_outdated(self, secret_hash: str, origin: str) -> bool:
        return False


class _Quiet:
    """A feed without entries."""

    seq = 0

    async def knows(self, place: Place, since: int) -> bool:
        return True


def made_up_verifier(capacity: int, rows: MadeUpRows | None = None) -> tuple[Verifier, PrefixCache]:
    """Return a verifier with a lease that never ends, and its cache."""
    database = cast("Database", _MadeUpDatabase(rows or MadeUpRows("{}", "live")))
    store, activities = VerificationStore(database), ActivityStore(database)
    cache, lease = PrefixCache(capacity), Lease()
    lease.renew(inf)
    verifier = Verifier(
        mint=KeyMint(_TAG_KEY),
        cache=cache,
        hasher=_Trusting(threads=1, queue_limit=1),
        store=store,
        usage=KeyUseLog(KeyUsageStore(database)),
        activities=activities,
        activity=UsageLog(activities),
        lease=lease,
        feed=_Quiet(),
        clock=DatabaseClock(),
    )
    return verifier, cache


async def _fill(capacity: int, annotations: str, environment: str) -> dict[str, int]:
    rows = MadeUpRows(annotations, environment)
    verifier, cache = made_up_verifier(capacity, rows)
    mint = KeyMint(_TAG_KEY)

    async def meet_another() -> None:
        minted = mint.mint("bench", environment)
        rows.secret = minted.secret
        credential = await verifier.identify(minted.text)
        assert credential is not None
        if credential.activity is not None:
            credential.activity.note(datetime.now(UTC))

    await meet_another()
    gc.collect()
    before = resident()
    for _ in range(capacity - 1):
        await meet_another()
    gc.collect()
    grown = resident() - before
    assert len(cache) == capacity
    await meet_another()
    return {"bytes": grown, "kept": len(cache)}


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_fill(int(sys.argv[1]), *sys.argv[2:]))))
