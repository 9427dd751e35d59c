"""What the access log and traces cost in VerifyKey: nothing while they are off, and little when on.

With `--base`, the service without them is also compared with another checkout.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

from authsvc.process.devpg import DevPostgres
from tests.bench.bench import say
from tests.bench.changes import Side, serving
from tests.bench.powers import load_of
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtLeast, Row
from tests.telemetry.collector import collecting

_PART = "observed"
_HERE = Path(__file__).parents[2]
_LOG, _TRACES = {"AUTHSVC_ACCESS_LOG": "all"}, {"AUTHSVC_TRACES": "on"}
# What is switched on, with the usual share of verifications.
_SIDES: dict[str, Mapping[str, str]] = {"off": {}, "log": _LOG, "traces": _TRACES, "both": _LOG | _TRACES}


async def measure(*, quick: bool, base: Path | None) -> list[Row]:
    """Return the rows; with `base`, a checkout, also the one against the service there."""
    cores = sorted(os.sched_getaffinity(0))
    rounds, requests = (3, 3_000) if quick else (15, 20_000)
    try:
        # The load, PostgreSQL and the collector get what the server leaves.
        os.sched_setaffinity(0, set(cores[1:]) or set(cores))
        async with _sides(base, cores[0]) as sides:
            loads = {name: await load_of(side, "plain") for name, side in sides.items()}
            say(f"observed: {rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
            rates = await in_turns(
                {name: partial(load.rate, requests) for name, load in loads.items()}, rounds
            )
    finally:
        os.sched_setaffinity(0, set(cores))

    def row(what: str, one: str, other: str, aim: AtLeast | None = None) -> Row:
        above, below = (f"{median(rates[name]):,.0f}/s {name}" for name in (one, other))
        return Row(_PART, f"VerifyKey, {what}", above, below, ratio(rates[one], rates[other]), aim)

    rows = [
        row("with the access log, against without", "log", "off"),
        row("with traces, against without", "traces", "off"),
        row("with both, against without", "both", "off"),
    ]
    if "base" in rates:
        rows.append(row("without both, against the other checkout", "off", "base", AtLeast(0.97)))
    return rows


@asynccontextmanager
async def _sides(base: Path | None, core: int) -> AsyncIterator[dict[str, Side]]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        say("observed: starting PostgreSQL, a collector, and a service for each side")
        collector = await stack.enter_async_context(collecting())
        postgres = await stack.enter_async_context(DevPostgres(Path(directory) / "postgres"))
        sides = {
            name: await stack.enter_async_context(
                serving(
                    name,
                    _HERE,
                    postgres,
                    core,
                    AUTHSVC_SCOPES="*",
                    OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}",
                    **settings,
                )
            )
            for name, settings in _SIDES.items()
        }
        if base is not None:
            sides["base"] = await stack.enter_async_context(
                serving("base", base, postgres, core, AUTHSVC_SCOPES="*")
            )
        yield sides
