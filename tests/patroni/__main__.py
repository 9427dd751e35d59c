"""All events, several times: `python -m tests.patroni [--runs N] [--event NAME] [--through hosts|haproxy]`.

Prints a line for each run, and then a table. It has for how long writes were unavailable, and the longest
time without an answer to a verification of a key that a worker knows (warm) and of one that it does not know
(cold), as the median of the runs and the maximum, in seconds. It also has how many acknowledged creations
were lost, how many acknowledged revocations were undone, and how many revoked keys were accepted. The exit
code is 1 if there was any of these, or if a replica was not back by itself.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from tests.patroni.cluster import TTL, Unhealthy, cluster
from tests.patroni.events import EVENTS
from tests.patroni.lan import Unsupported
from tests.patroni.trial import Result, trial

_WAYS = ("hosts", "haproxy")
_LEASE = 15.0
_HEAD = ("event", "through", "runs", "writes", "warm", "cold", "checked", "lost", "undone", "accepted", "")


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.patroni", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each event (default: 5)")
    parser.add_argument("--event", action="append", choices=EVENTS, help="only this event; may be repeated")
    parser.add_argument("--through", action="append", choices=_WAYS, help="only this way to the primary")
    parser.add_argument(
        "--lease", type=float, default=_LEASE, help=f"AUTHSVC_LEASE in seconds (default: {_LEASE:g})"
    )
    parser.add_argument(
        "--asynchronous", action="store_true", help="standbys that no commit waits for: changes may be lost"
    )
    given = parser.parse_args()
    if given.runs < 1:
        parser.error("--runs: must be at least 1")
    print(f"Patroni with ttl {TTL} s, authsvc with a lease of {given.lease:g} s")  # noqa: T201
    results: list[Result] = []
    # It is ignored in the background of a shell, and the networks have to be removed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="authsvc-patroni-", dir=_memory()) as root:
            Path(root).chmod(0o755)
            asyncio.run(_run(given, Path(root), results))
    except Unsupported as reason:
        print(f"This cannot run here: {reason}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was measured until then:")  # noqa: T201
    print(*_table(results), sep="\n")  # noqa: T201
    return 0 if results and all(result.is_right for result in results) else 1


async def _run(given: argparse.Namespace, root: Path, results: list[Result]) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    for event in given.event or EVENTS:
        for through in given.through or _WAYS:
            await _several(given, event, through, root / f"{event}-{through}", results)


async def _several(
    given: argparse.Namespace, event: str, through: str, directory: Path, results: list[Result]
) -> None:
    """Run one event several times. A failure of a run counts as one, and the next has a new cluster.

    A run in which Patroni does not recover says nothing about authsvc: it is told, and repeated.
    """
    done = clusters = 0
    while done < given.runs and clusters <= 2 * given.runs:
        home = directory.with_name(f"{directory.name}-{clusters}")
        home.mkdir()
        clusters += 1
        async with cluster(home, synchronous=not given.asynchronous) as running:
            failed = False
            while done < given.runs and not failed:
                done += 1
                try:
                    result = await trial(running, event, through, home / f"run-{done}", given.lease)
                except Unhealthy as error:
                    what = f"repeated, Patroni has not recovered: {error}"
                    print(f"{event} through {through}: {what}", flush=True)  # noqa: T201
                    done, failed = done - 1, True
                    continue
                except Exception as error:  # noqa: BLE001 - reported, and counted
                    traceback.print_exc()
                    result = Result(event, through, others=[f"{type(error).__name__}: {error}"])
                    failed = True
                results.append(result)
                print(f"{event} through {through}, {done} of {given.runs}:", flush=True)  # noqa: T201
                print(*_notes(result), sep="\n", flush=True)  # noqa: T201


def _notes(result: Result) -> Iterable[str]:
    """Return the figures of one run, and whatever was wrong."""
    yield (
        f"  writes unavailable {result.writes:.1f} s, warm gap {result.warm:.2f} s, cold {result.cold:.1f} s;"
        f" lost {result.lost}, undone {result.undone}, accepted {result.accepted};"
        f" {result.verifications} verifications, {result.changes} changes, {result.created} created"
    )
    refusals = ", ".join(f"{reason} {count}" for reason, count in result.refusals.items())
    yield f"  refused for now: {refusals or 'never'}"
    for what, found in {
        "not back while the node was silent": result.waits_for_node,
        "NOT BACK": result.not_back,
        "HANGING": result.hanging,
        "VIOLATION": result.others,
        "error in the log": result.faults,
    }.items():
        yield from (f"  {what}: {text[:600]}" for text in found[:5])


def _table(results: Sequence[Result]) -> Iterable[str]:
    """Return the table, as Markdown."""
    yield ""
    yield f"| {' | '.join(_HEAD)} |"
    yield f"| {' | '.join('--' for _ in _HEAD)} |"
    for event, through in dict.fromkeys((result.event, result.through) for result in results):
        rows = [result for result in results if (result.event, result.through) == (event, through)]
        waited = sum(bool(result.waits_for_node) for result in rows)
        wrong = sum(not result.is_right for result in rows)
        logged = sum(bool(result.faults) for result in rows)
        remarks = [
            f"{waited} not back until the node was" if waited else "",
            f"{logged} with errors in the log" if logged else "",
            f"{wrong} WRONG" if wrong else "",
        ]
        cells = (
            event,
            through,
            len(rows),
            _both([result.writes for result in rows], 1),
            _both([result.warm for result in rows], 2),
            _both([result.cold for result in rows], 1),
            sum(result.verifications for result in rows),
            sum(result.lost for result in rows),
            sum(result.undone for result in rows),
            sum(result.accepted for result in rows),
            ", ".join(filter(None, remarks)),
        )
        yield f"| {' | '.join(map(str, cells))} |"


def _both(found: Sequence[float], digits: int) -> str:
    """Return the median and the maximum."""
    return f"{median(found):.{digits}f} ({max(found):.{digits}f})"


def _memory() -> Path | None:
    """Return where files are kept in memory, if there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - data is in a new directory there
    return memory if memory.is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
