"""What a worker keeps for each credential that a client holds, and what many changes leave on both sides.

Each figure is that of a process of its own. Both sides of the second are in one process and are real, except
that there is no network between them.
"""

import asyncio
import gc
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import cast

from authsvc.model.credential import Credential
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import TAIL_LENGTH, KeyMint
from authsvc.revocation.client_holder import ClientChannel, Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.verify.clock import boottime
from authsvc.verify.lease import Lease
from tests.bench.bench import say
from tests.bench.memory import resident
from tests.bench.table import AtMost, Row
from tests.client.following_loop import following_loop

_PART = "holders"
_HELD = 10_000
_CLIENTS = 10
_MAX_BYTES = 512
_MAX_GROWTH = 1.01


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about memory; none where the system does not report resident memory."""
    if sys.platform != "linux":
        say("holders: memory left out, since only Linux has /proc/self/statm")
        return []
    changes = 50_000 if quick else 100_000
    say(f"holders: {_CLIENTS} clients of a worker that hold {_HELD:,} credentials each")
    kept = (await _in_a_process("kept"))["bytes"] / _CLIENTS / _HELD
    say(f"holders: {changes:,} changes, half of which concern what a client holds")
    grown = await _in_a_process("changes", str(changes))
    return [
        Row(
            _PART,
            f"in a worker, a credential that a client holds, against {_MAX_BYTES} bytes",
            f"{kept:,.0f} bytes",
            f"{_CLIENTS} clients, {_HELD:,} credentials each",
            kept / _MAX_BYTES,
            AtMost(1),
        ),
        Row(
            _PART,
            "memory of a client and its worker after many changes, against after a fifth of them",
            f"{grown['last'] / 2**20:.2f} MiB, {changes:,} changes",
            f"{grown['early'] / 2**20:.2f} MiB",
            grown["last"] / grown["early"],
            AtMost(_MAX_GROWTH),
        ),
    ]


async def _in_a_process(*arguments: str) -> dict[str, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.held_memory", *arguments), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    measured: dict[str, int] = json.loads(output)
    return measured


def _kept() -> dict[str, int]:
    """Have clients hold what the worker has in memory, each string as it arrives with their request."""
    mint, lease = KeyMint(b"0" * 32), Lease()
    credentials = [
        Credential(new_identifier("key", datetime.now(UTC)), f"customer-{number:06}", (), None, None, {})
        for number in range(_HELD)
    ]
    texts = [mint.mint("bench", "live").text.encode() for _ in credentials]
    clients = ClientHolders(lease, lambda: datetime.now(UTC), seconds=5.0, limit=100)
    nowhere = cast("ClientChannel", None)  # nothing is sent
    gc.collect()
    before = resident()
    for _ in range(_CLIENTS):
        client = clients.join(nowhere, Member("", "", "", "", ""), _HELD)
        for text, credential in zip(texts, credentials, strict=True):
            assert clients.hold(client, text.decode()[:-TAIL_LENGTH], credential)
    gc.collect()
    assert sum(len(each.holdings) for each in clients.clients) == _CLIENTS * _HELD
    return {"bytes": resident() - before}


async def _changes(number: int) -> dict[str, int]:
    async with following_loop(boottime, 1_000) as loop:
        measured = []
        # The history of the feed is full after the first fifth.
        for share in (number // 5, number - number // 5):
            await loop.changes(share)
            gc.collect()
            measured.append(resident())
        assert len(loop.memory) == len(loop.keys)
    return {"early": measured[0], "last": measured[1]}


if __name__ == "__main__":
    if sys.argv[1] == "kept":
        print(json.dumps(_kept()))
    else:
        print(json.dumps(asyncio.run(_changes(int(sys.argv[2])))))
