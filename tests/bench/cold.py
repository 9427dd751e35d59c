"""Cold fills: each key is read from PostgreSQL and proved with argon2id, against argon2id alone.

Both sides have the same secrets, hashes, threads and cores. PostgreSQL runs on
the same machine, so argon2 lacks the cores that it uses.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

import asyncpg
from argon2 import PasswordHasher

from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import CredentialKind
from authsvc.model.key_string import KeyString
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from authsvc.verify.verifier import Question
from tests.bench.bench import Bench, say
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtLeast, Row

T = TypeVar("T")

_PART = "cold"
_AT_ONCE = 64
_OWNER = "cold-start"
_QUESTION = Question(CredentialKind.KEY, BOOTSTRAP)


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about cold verification."""
    rounds, count = (3, 600) if bench.quick else (5, 1_200)
    say(f"cold: minting {rounds * count} keys")
    minted: list[KeyString] = []

    async def mint(number: int) -> None:
        new = NewKey(owner_id=_OWNER, display_name=f"key {number}", scopes=("orders:read",))
        _, made = await bench.app.keys.create(BOOTSTRAP, new)
        string = bench.app.verifier._mint.parse(made.text)
        assert string is not None
        minted.append(string)

    await _at_once(range(rounds * count), mint)
    hashes = await _hashes(bench)
    keys = minted[:count]
    remote = iter([minted[start : start + count] for start in range(0, len(minted), count)])

    async def verify(key: KeyString) -> None:
        assert (await bench.app.verifier.verify(_QUESTION, key.text)).credential is not None

    async def in_process() -> float:
        bench.app.cache.forget([key.prefix for key in keys])
        return await _rate(count, _at_once(keys, verify))

    async def in_batches() -> float:
        bench.app.cache.forget([key.prefix for key in keys])
        return await _rate(count, _in_batches(bench, keys))

    async def over_grpc() -> float:
        return await _rate(count, _over_grpc(bench, next(remote)))

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:

        async def bare() -> float:
            return await asyncio.to_thread(
                _argon2_rate, pool, [(hashes[key.prefix], key.secret) for key in keys]
            )

        say(f"cold: {rounds} rounds of {count} fills, {_AT_ONCE} at once")
        runs = bench.app.hasher.runs
        sides = {"bare": bare, "verify": in_process, "verify_all": in_batches, "grpc": over_grpc}
        rates = await in_turns(sides, rounds)
    assert bench.app.hasher.runs - runs == 2 * rounds * count, "not every fill was cold"

    def row(what: str, side: str, aim: AtLeast | None) -> Row:
        one, other = (
            f"{median(rates[side]):,.0f}/s",
            f"{median(rates['bare']):,.0f}/s argon2 on {threads} threads",
        )
        return Row(_PART, what, one, other, ratio(rates[side], rates["bare"]), aim)

    return [
        row(f"cold Verifier.verify, {_AT_ONCE} at once, against argon2 alone", "verify", AtLeast(0.6)),
        row(f"cold Verifier.verify_all of {_AT_ONCE}, against argon2 alone", "verify_all", None),
        row(f"cold VerifyKey over gRPC, {_AT_ONCE} at once, client included", "grpc", None),
    ]


async def _at_once(things: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work for all items, with enough concurrency that another one is always waiting."""
    remaining = iter(things)

    async def worker(share: Iterator[T]) -> None:
        for thing in share:
            await work(thing)

    await asyncio.gather(*(worker(remaining) for _ in range(_AT_ONCE)))


async def _in_batches(bench: Bench, keys: Sequence[KeyString]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        asked = [(_QUESTION, key.text) for key in keys[start : start + _AT_ONCE]]
        assert all(verdict.credential for verdict in await bench.app.verifier.verify_all(asked))


async def _over_grpc(bench: Bench, keys: Sequence[KeyString]) -> None:
    metadata = bench.as_caller(bench.admin_key)

    async def verify(key: KeyString) -> None:
        request = pb.VerifyKeyRequest(key_string=key.text)
        assert (await bench.stub.VerifyKey(request, metadata=metadata)).valid  # type: ignore[misc]

    await _at_once(keys, verify)


async def _rate(count: int, work: Awaitable[None]) -> float:
    started = time.perf_counter()
    await work
    return count / (time.perf_counter() - started)


def _argon2_rate(pool: ThreadPoolExecutor, proofs: Sequence[tuple[str, str]]) -> float:
    """Prove secrets at the cost that their hashes state, as fast as the threads allow."""
    hasher = PasswordHasher()
    started = time.perf_counter()
    assert all(pool.map(lambda proof: hasher.verify(*proof), proofs))
    return len(proofs) / (time.perf_counter() - started)


async def _hashes(bench: Bench) -> dict[str, str]:
    """Return the hash of each measured key by prefix."""
    connection = await asyncpg.connect(bench.database_url)
    try:
        await connection.execute("VACUUM ANALYZE")
        rows = await connection.fetch(
            "SELECT key_prefix, secret_hash FROM authsvc.keys WHERE owner_id = $1", _OWNER
        )
    finally:
        await connection.close()
    return {row["key_prefix"]: row["secret_hash"] for row in rows}
