"""`make bench`: measure, then print one table. ARGS='--quick' or ARGS='--only verify' for less."""

import argparse
import sys
from pathlib import Path

import uvloop

from tests.bench import (
    abuse,
    access,
    capacity,
    changes,
    cold,
    console,
    front,
    gateway,
    h2load,
    holders,
    imports,
    lists,
    memory,
    observed,
    powers,
    revocation,
    scale,
    sessions,
    spread,
    table,
    told,
    verify,
    warnings,
)
from tests.bench.bench import running, say

_PARTS = (
    "memory",
    "verify",
    "holders",
    "front",
    "cold",
    "lists",
    "scale",
    "revocation",
    "changes",
    "capacity",
    "told",
    "sessions",
    "access",
    "gateway",
    "abuse",
    "spread",
    "warnings",
    "console",
    "powers",
    "observed",
    "imports",
)

_LOADED = (
    "verify",
    "holders",
    "front",
    "sessions",
    "access",
    "gateway",
    "warnings",
    "console",
    "powers",
    "observed",
)


def main() -> None:
    """Measure what the arguments select. A missed target does not make the run fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=_PARTS, help="this part; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes, about a minute")
    parser.add_argument("--attack", default="", help="of abuse, only attacks with this in their names")
    parser.add_argument(
        "--base",
        type=Path,
        metavar="DIRECTORY",
        help="of changes, powers and observed, another checkout of authsvc to compare with",
    )
    arguments = parser.parse_args()
    parts = [part for part in _PARTS if part in (arguments.only or _PARTS)]
    left_out = [] if h2load.is_there() else [part for part in parts if part in _LOADED]
    parts = [part for part in parts if part not in left_out]
    if left_out:
        say(f"{' and '.join(left_out)} left out: {h2load.HOW_TO_GET}")
    if not parts:
        sys.exit(1)
    uvloop.run(_run(parts, quick=arguments.quick, attack=arguments.attack, base=arguments.base))
    if left_out:
        print(f"\nLeft out: {', '.join(left_out)}. {h2load.HOW_TO_GET}")


async def _run(parts: list[str], *, quick: bool, attack: str, base: Path | None) -> None:
    rows, facts = [], table.machine()
    if "memory" in parts:
        rows += await memory.measure(quick=quick)
    if "holders" in parts:
        rows += await holders.measure(quick=quick)
    if {"verify", "cold", "lists", "access", "gateway", "imports"}.intersection(parts):
        async with running(quick=quick) as bench:
            facts.append(await bench.postgres_fact())
            if "verify" in parts:
                facts.append(h2load.described())
                rows += await verify.measure(bench)
            if "cold" in parts:
                rows += await cold.measure(bench)
            if "lists" in parts:
                rows += await lists.measure(bench)
            if "access" in parts:
                if "verify" not in parts:
                    facts.append(h2load.described())
                rows += await access.measure(bench)
            if "gateway" in parts:
                rows += await gateway.measure(bench)
            if "imports" in parts:
                rows += await imports.measure(bench)
    if "front" in parts:
        if "verify" not in parts:
            facts.append(h2load.described())
        rows += await front.measure(quick=quick)
    if "scale" in parts:
        rows += await scale.measure(quick=quick)
    if "revocation" in parts:
        rows += await revocation.measure(quick=quick)
    if "told" in parts:
        rows += await told.measure(quick=quick)
    if "changes" in parts:
        rows += await changes.measure(quick=quick, base=base)
    if "capacity" in parts:
        rows += await capacity.measure(quick=quick)
    if "sessions" in parts:
        if "verify" not in parts:
            facts.append(h2load.described())
        rows += await sessions.measure(quick=quick)
    if "abuse" in parts:
        rows += await abuse.measure(quick=quick, only=attack)
    if "spread" in parts:
        rows += await spread.measure(quick=quick)
    if "warnings" in parts:
        rows += await warnings.measure(quick=quick)
    if "console" in parts:
        rows += await console.measure(quick=quick)
    if "powers" in parts:
        rows += await powers.measure(quick=quick, base=base)
    if "observed" in parts:
        rows += await observed.measure(quick=quick, base=base)
    table.show(rows, facts)


main()
