"""What restrictions of keys cost in VerifyKey: nothing for a key without any, and little for one with some.

With `--base`, a key without restrictions is also verified by another checkout, in turns with this one.
"""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from google.protobuf.duration_pb2 import Duration

from authsvc.process.devpg import DevPostgres
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.bench.bench import say
from tests.bench.changes import Side, serving
from tests.bench.h2load import Load
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import VERIFY
from tests.bench.table import AtLeast, Row

_PART = "powers"
_HERE = Path(__file__).parents[2]
_ADDRESS = "192.0.2.7"
_MANY = [f"10.0.{number}.0/24" for number in range(49)]
# Of which nobody runs out, and one that is reached by the first verification.
_PLENTY = [
    resources_pb2.RateLimit(name=f"limit-{number}", limit=1_000_000_000, period=Duration(seconds=60))
    for number in range(5)
]
_SPENT = [resources_pb2.RateLimit(name="spent", limit=1, period=Duration(seconds=2_678_400))]
# What a key and the request have besides the usual, and the verdict.
_SIDES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "plain": ({}, {}, "VALID"),
    "one network": ({"allowed_networks": ["192.0.2.0/24"]}, {}, "VALID"),
    "50 networks": ({"allowed_networks": [*_MANY, "192.0.2.0/24"]}, {}, "VALID"),
    "any of 3 scopes": ({}, {"any_of_scopes": ["a", "b", "orders:write"]}, "VALID"),
    "a user agent": ({}, {"user_agent": "curl/8.5.0"}, "VALID"),
    "elsewhere": ({"allowed_networks": ["203.0.113.0/24"]}, {}, "ADDRESS_NOT_ALLOWED"),
    "disabled": ({}, {}, "DISABLED"),
    "a rate limit": ({"rate_limits": _PLENTY[:1]}, {}, "VALID"),
    "5 rate limits": ({"rate_limits": _PLENTY}, {}, "VALID"),
    "a rate limit that is reached": ({"rate_limits": _SPENT}, {}, "RATE_LIMITED"),
    "credits": ({"credits": resources_pb2.Credits(remaining=10**12)}, {}, "VALID"),
    "a rate limit and credits": (
        {"rate_limits": _PLENTY[:1], "credits": resources_pb2.Credits(remaining=10**12)},
        {},
        "VALID",
    ),
    "no credits left": ({"credits": resources_pb2.Credits(remaining=1)}, {}, "CREDITS_EXHAUSTED"),
}


async def measure(*, quick: bool, base: Path | None) -> list[Row]:
    """Return the rows about restrictions; with `base`, a checkout, also against the service there."""
    cores = sorted(os.sched_getaffinity(0))
    rounds, requests = (3, 3_000) if quick else (9, 8_000)
    try:
        # The load and PostgreSQL get what the server leaves.
        os.sched_setaffinity(0, set(cores[1:]) or set(cores))
        async with _both(base, cores[0]) as sides:
            return await _measure(sides, rounds, requests)
    finally:
        os.sched_setaffinity(0, set(cores))


@asynccontextmanager
async def _both(base: Path | None, core: int) -> AsyncIterator[dict[str, Side]]:
    checkouts = {"this": _HERE} if base is None else {"base": base, "this": _HERE}
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        say("powers: starting PostgreSQL and " + " and ".join(map(str, checkouts.values())))
        postgres = await stack.enter_async_context(DevPostgres(Path(directory) / "postgres"))
        yield {
            name: await stack.enter_async_context(serving(name, path, postgres, core, AUTHSVC_SCOPES="*"))
            for name, path in checkouts.items()
        }


async def _measure(sides: dict[str, Side], rounds: int, requests: int) -> list[Row]:
    loads = {name: await load_of(sides["this"], name) for name in _SIDES}
    if "base" in sides:
        loads["before"] = await load_of(sides["base"], "plain")
    say(f"powers: {rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
    rates = await in_turns({name: partial(load.rate, requests) for name, load in loads.items()}, rounds)

    def row(what: str, one: str, other: str, aim: AtLeast | None) -> Row:
        above, below = (f"{median(rates[name]):,.0f}/s {name}" for name in (one, other))
        return Row(_PART, what, above, below, ratio(rates[one], rates[other]), aim)

    rows = [
        row(f"VerifyKey, {name}, against a key without restrictions", name, "plain", AtLeast(0.85))
        for name in _SIDES
        if name != "plain"
    ]
    if "before" in rates:
        what = "VerifyKey of a key without restrictions, against the other checkout"
        rows.append(row(what, "plain", "before", AtLeast(0.98)))
    return rows


async def load_of(side: Side, name: str) -> Load:
    """Return the load of one side, once each worker has answered it as expected."""
    key, asked, code = _SIDES[name]
    owner_id = name.replace(" ", "-")
    made = await side.keys.CreateKey(
        pb.CreateKeyRequest(
            owner_id=owner_id, display_name="bench", scopes=["orders:read", "orders:write"], **key
        ),
        metadata=side.metadata,
    )
    if name == "disabled":
        request = pb.DisableKeyRequest(key_id=made.key.key_id)
        await side.keys.DisableKey(request, metadata=side.metadata)
    verify = pb.VerifyKeyRequest(
        key_string=made.key_string, required_scopes=["orders:read"], client_ip=_ADDRESS, **asked
    )
    if code in ("RATE_LIMITED", "CREDITS_EXHAUSTED"):
        await side.keys.VerifyKey(verify, metadata=side.metadata)
    for _ in range(20):
        answer = await side.keys.VerifyKey(verify, metadata=side.metadata)
        assert answer.code == resources_pb2.VerdictCode.Value(f"VERDICT_CODE_{code}"), name
    credential = dict(side.metadata)["authorization"].removeprefix("Bearer ")
    return Load(side.address, VERIFY, verify.SerializeToString(), credential)
