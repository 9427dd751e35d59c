"""A hostile client against a connection of the lane, in memory: `python -m tests.lane.fuzz --minutes 60`.

Hypothesis draws what the client sends, when it reads, how much time passes, and when the connection ends.
`World` says what has to hold. A failure is shown as the shortest plan that was found for it, and is kept in
`.hypothesis` for the next run of the tests.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.http2 import WINDOW_UPDATE, frame
from tests.lane import frames, memory
from tests.lane.client import Client
from tests.lane.loop import Loop, run, turns
from tests.lane.world import World

_EXAMPLES_EACH = 2000
# More than a message has to arrive, a stranger to wait, and an answer to be read.
_ANSWERED_SECONDS = 15


def play(beginning: dict[str, Any], plan: Sequence[frames.Step]) -> None:
    """Let a client do what its plan says; fail for what must not be."""

    async def played(loop: Loop) -> None:
        async with World.running(loop, connection_age=beginning["age"], tls=beginning["tls"]) as world:
            if beginning["reads"]:
                world.transport.take_all()
            client = Client()
            await world.feed(_begun(beginning))
            for step in plan:
                await _take(world, client, step)
                world.check()
            if beginning["patient"] and not world.transport.is_closing():
                await _wait(world, client)

    run(played)


def _begun(beginning: dict[str, Any]) -> bytes:
    begun = memory.PREFACE + memory.settings(beginning["settings"])
    return begun[:7] + b"x" + begun[8:] if beginning["mutated"] else begun


async def _take(world: World, client: Client, step: frames.Step) -> None:
    transport = world.transport
    match step:
        case ("send", sent, cuts, mutation):
            data = b"".join(client.take(it) for it in sent)
            if 0 <= mutation < len(data):
                client.is_proper = False
                data = data[:mutation] + bytes([data[mutation] ^ 1 << mutation % 8]) + data[mutation + 1 :]
            await world.feed(*_cut(data, cuts))
        case ("read", size):
            transport.take(size)
        case ("pass", seconds):
            await world.passes(seconds)
        case ("turn",):
            await turns(1)
        case ("leave",):
            world.connection.leave(world.loop.time() + 5)
        case ("drain",):
            await world.gate.close()
            world.connection.leave(world.loop.time() + 5)
        case ("abort",):
            transport.abort()
        case ("end",):
            transport.end()


async def _wait(world: World, client: Client) -> None:
    """Read all answers; each call has one, unless the connection has ended."""
    world.transport.take_all()
    windows = [frame(WINDOW_UPDATE, 0, stream, (1 << 24).to_bytes(4)) for stream in (0, *client.asked)]
    await world.feed(memory.settings([(4, 1 << 20)]) + b"".join(windows))
    await world.passes(_ANSWERED_SECONDS)
    if client.is_proper and not world.transport.is_closing() and not world.answers.goaways:
        unanswered = client.asked - set(world.answers.statuses) - set(world.answers.resets)
        assert unanswered == set()


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    return [part for part in (*parts, data) if part]


def fuzz(examples: int, seed: int | None = None) -> None:
    """Play so many plans."""
    test = hypothesis.given(frames.beginnings, frames.plans)(play)
    test = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )(test)
    if seed is not None:
        test = hypothesis.seed(seed)(test)
    test()


def main() -> int:
    """Fuzz for as long as was asked; return 1 for a failure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="where to begin (default: the time)"
    )
    chosen = parser.parse_args()
    end, seed, played = time.monotonic() + 60 * chosen.minutes, chosen.seed, 0
    while time.monotonic() < end:
        fuzz(_EXAMPLES_EACH, seed)
        seed, played = seed + 1, played + _EXAMPLES_EACH
        left = max(0.0, end - time.monotonic()) / 60
        print(f"{played} plans played, no failure; {left:.1f} minutes left", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
