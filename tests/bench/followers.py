"""Followers of replicas that serve nobody: `python -m tests.bench.followers URL NUMBER`.

Each registers, renews, follows the feed and acknowledges as the follower of a replica does, with a memory
that is empty. A line tells when all of them follow; they stop when the standard input ends.
"""

import asyncio
import sys

import uvloop

from authsvc.revocation.follower import Follower
from authsvc.revocation.holder import Holder
from authsvc.revocation.local_channel import LocalChannel
from authsvc.store.feed import FeedConnection
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache

_LEASE_SECONDS = 30.0


async def _run(url: str, number: int) -> None:
    followers = []
    for _ in range(number):
        connection = FeedConnection(url, lease=_LEASE_SECONDS, listen=True)
        follower = Follower(connection, seconds=_LEASE_SECONDS)
        connection.on_hint(follower.hint)
        LocalChannel(Holder(cache=PrefixCache(1000), lease=Lease(), clock=DatabaseClock()), follower.holders)
        await follower.start()
        followers.append(follower)
    following = [asyncio.create_task(follower.run()) for follower in followers]
    print("following", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await asyncio.gather(*(follower.stop() for follower in followers))


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2])))
