"""Verification in the caller's process: against the same in a worker, and the memory of what a client holds.

The parts are those of a client that follows a worker, without the stream. Both sides judge the same
credentials. Memory is measured in a process of its own.
"""

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf
from statistics import median
from time import thread_time

from authsvc.client import AuthClient
from authsvc.client.held import credential_of
from authsvc.client.memory import Memory
from authsvc.client.questions import about_key
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import CredentialKind
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, TAIL_LENGTH, KeyMint
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.entry import Entry
from authsvc.verify.question import Question
from tests.bench.bench import say
from tests.bench.memory import made_up_verifier, resident
from tests.bench.rounds import in_turns
from tests.bench.session_rows import USER_AGENT
from tests.bench.table import AtMost, Row

_PART = "holders"
_CAPACITY = 10_000
_MAX_MORE_MICROSECONDS = 3.0
_MINT = KeyMint(b"0" * 32)
_IP = "192.0.2.7"
_SCOPE = "orders:read"


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about a client that holds."""
    rounds, calls = (5, 2_000) if quick else (15, 20_000)
    say(
        f"holders: {rounds} rounds of {calls:,} verifications in this process, as in a worker and in a client"
    )
    times = await in_turns(_sides(calls), rounds)
    shown = {name: median(each) * 1e6 for name, each in times.items()}

    def row(what: str, name: str, to: str, aim: AtMost | None = None) -> Row:
        more = [(one - other) * 1e6 for one, other in zip(times[name], times[to], strict=True)]
        return Row(
            _PART,
            f"{what}, µs more than Verifier.recall",
            f"{shown[name]:.1f} µs",
            f"{shown[to]:.1f} µs Verifier.recall",
            median(more),
            aim,
        )

    most = AtMost(_MAX_MORE_MICROSECONDS)
    rows = [
        row("Memory.recall of a key", "memory", "worker"),
        row("AuthClient.verify_key_now with a scope and an address", "now", "worker", most),
        row("await AuthClient.verify_key from memory with the same", "awaited", "worker", most),
        row("AuthClient.verify_session_now with that and a user agent", "session", "worker session", most),
        row("await AuthClient.verify_session from memory", "awaited session", "worker session", most),
    ]
    if sys.platform != "linux":
        say("holders: memory left out, since only Linux has /proc/self/statm")
        return rows
    say(f"holders: {_CAPACITY:,} held credentials, and as many changes again and again")
    return rows + await _memory(20 if quick else 100)


def _sides(calls: int) -> dict[str, Callable[[], "asyncio.Future[float]"]]:
    keys = [_MINT.mint("bench", "live").text for _ in range(100)]
    sessions = [_MINT.mint("bench", SESSION).text for _ in range(100)]
    verifier, cache = made_up_verifier(_CAPACITY)
    client = AuthClient("127.0.0.1:1", key="unused", tls=None, hold=True)
    memory = client._memory
    assert memory is not None
    _begin(memory)
    for texts, message in ((keys, _message), (sessions, _session)):
        for number, text in enumerate(texts):
            # Each side has its own: the activity of a session is noted in it.
            held, other = credential_of(message(number)), credential_of(message(number))
            memory.admit(text[:-TAIL_LENGTH], memory.digest(text), held)
            cache.admit(text[:-TAIL_LENGTH], Entry(cache.digest(text), other))
    of_key = Question(CredentialKind.KEY, BOOTSTRAP, (_SCOPE,), _IP)
    of_session = Question(CredentialKind.SESSION, BOOTSTRAP, (_SCOPE,), _IP, USER_AGENT)
    question = about_key(_SCOPE, _IP)

    def timed(verify: Callable[[str], object], texts: list[str]) -> Callable[[], "asyncio.Future[float]"]:
        async def side() -> float:
            begun = thread_time()
            for at in range(calls):
                assert verify(texts[at % 100])
            return (thread_time() - begun) / calls

        return lambda: asyncio.ensure_future(side())

    async def awaited() -> float:
        begun = thread_time()
        for at in range(calls):
            assert await client.verify_key(keys[at % 100], _SCOPE, _IP)
        return (thread_time() - begun) / calls

    async def awaited_session() -> float:
        begun = thread_time()
        for at in range(calls):
            assert await client.verify_session(sessions[at % 100], _SCOPE, _IP, USER_AGENT)
        return (thread_time() - begun) / calls

    return {
        "worker": timed(lambda text: verifier.recall(of_key, text), keys),
        "memory": timed(lambda text: memory.recall(question, text), keys),
        "now": timed(lambda text: client.verify_key_now(text, _SCOPE, _IP), keys),
        "awaited": lambda: asyncio.ensure_future(awaited()),
        "worker session": timed(lambda text: verifier.recall(of_session, text), sessions),
        "session": timed(lambda text: client.verify_session_now(text, _SCOPE, _IP, USER_AGENT), sessions),
        "awaited session": lambda: asyncio.ensure_future(awaited_session()),
    }


def _begin(memory: Memory) -> None:
    now = memory._stopwatch()
    memory.start(_CAPACITY * 16 // 15 + 1)
    memory.grant(inf, datetime.now(UTC), now, now)


def _message(number: int) -> pb.HeldCredential:
    """Return a credential as it is sent: with strings of its own."""
    here, there = number % 50, number // 50 % 100
    message = pb.HeldCredential(
        credential_id=new_identifier("key", datetime.now(UTC)),
        owner_id=f"customer-{number:06}",
        kind=pb.HOLDER_CREDENTIAL_KIND_KEY,
        scopes=["orders:read", f"service{here}:write", f"service{there}:read"],
    )
    message.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=365))
    return pb.HeldCredential.FromString(message.SerializeToString())


def _session(number: int) -> pb.HeldCredential:
    message = _message(number)
    message.kind = pb.HOLDER_CREDENTIAL_KIND_SESSION
    message.credential_id = new_identifier("ses", datetime.now(UTC))
    message.activity.record_time.FromDatetime(datetime.now(UTC))
    message.activity.idle_timeout.FromTimedelta(timedelta(days=7))
    return pb.HeldCredential.FromString(message.SerializeToString())


async def _memory(changes: int) -> list[Row]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.holding", str(changes)), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    measured: dict[str, int] = json.loads(output)
    each = measured["bytes"] / _CAPACITY
    return [
        Row(
            _PART,
            "a held key with 3 scopes, an expiry, and a noted use, against 1.25 KiB",
            f"{each:,.0f} bytes",
            f"1,280 bytes, {_CAPACITY:,} keys",
            each / 1280,
            AtMost(1),
        ),
        Row(
            _PART,
            "memory of what is held after many changes, against after a fifth of them",
            f"{measured['last'] / 2**20:.2f} MiB, {changes * _CAPACITY:,} changes",
            f"{measured['early'] / 2**20:.2f} MiB",
            measured["last"] / measured["early"],
            AtMost(1.01),
        ),
    ]


def _fill(changes: int) -> dict[str, int]:
    memory, question = Memory(_CAPACITY), about_key("orders:read", _IP)
    _begin(memory)
    gc.collect()
    before = resident()

    def hold(number: int) -> str:
        text = _MINT.mint("bench", "live").text
        memory.admit(text[:-TAIL_LENGTH], memory.digest(text), credential_of(_message(number)))
        assert memory.recall(question, text)
        return text[:-TAIL_LENGTH]

    prefixes = [hold(number) for number in range(_CAPACITY)]
    gc.collect()
    grown = resident() - before
    early = grown
    for turn in range(changes):
        if turn == changes // 5:
            gc.collect()
            early = resident() - before
        for at, prefix in enumerate(prefixes):
            memory.forget([prefix], "", None, everything=False)
            prefixes[at] = hold(turn * _CAPACITY + at)
            if at % 1000 == 0:  # as often as it reports and renews
                memory.take_uses()
                memory.take_evicted([])
    gc.collect()
    assert len(memory) == _CAPACITY
    return {"bytes": grown, "early": early, "last": resident() - before}


if __name__ == "__main__":
    print(json.dumps(_fill(int(sys.argv[1]))))
