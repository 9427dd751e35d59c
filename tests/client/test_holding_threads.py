"""Many threads verify while keys are revoked: none is accepted when its revocation was confirmed."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

from authsvc.client import BlockingAuthClient, VerdictCode
from authsvc.v1 import holder_service_pb2 as pb
from tests.client.follow_standin import Response, Stream, Worker, a_key, key_string, prefix, until

_KEYS, _THREADS = 60, 4


class Follower:
    """What a worker does by itself: it grants every renewal, sends keys, and notes confirmations."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.revoked: set[str] = set()
        self.confirmed = 0

    async def serve(self) -> None:
        while (request := await self._stream.next()) is not None:
            match request.WhichOneof("message"):
                case "renew":
                    await self._stream.grant(request.renew.number, now=datetime.now(UTC))
                case "hold":
                    await self._hold(request.hold)
                case "confirm":
                    self.confirmed = request.confirm.number
                case "leave":
                    self._stream.end()
                    return

    async def _hold(self, hold: pb.FollowRequest.Hold) -> None:
        times = {"revoke_time": datetime.min.replace(tzinfo=UTC)} if hold.credential in self.revoked else {}
        credential = a_key(credential_id=prefix(hold.credential), **times)
        await self._stream.send(held=Response.Held(number=hold.number, credential=credential))

    async def revoke(self, number: int, text: str) -> None:
        self.revoked.add(text)
        await self._stream.send(forget=Response.Forget(number=number, key_prefixes=[prefix(text)]))
        await until(lambda: self.confirmed >= number)


async def test_no_thread_accepts_what_is_revoked() -> None:
    """The clocks, the renewals and the threads are real; only the worker is a substitute."""
    worker, texts = Worker(), [key_string() for _ in range(_KEYS)]
    answered: set[str] = set()
    accepted: set[str] = set()
    faults: list[Any] = []
    is_over = threading.Event()

    async with worker.serving() as address:
        client = BlockingAuthClient(address, key="own", tls=None, deadline=60, hold=True)

        def verify() -> None:
            while not is_over.is_set():
                for text in texts:
                    was_revoked = text in answered
                    found = client.verify_key(text)
                    accepted.update({text} if found else ())
                    expected = [VerdictCode.REVOKED, *([] if was_revoked else [VerdictCode.VALID])]
                    if found.code not in expected:
                        faults.append((was_revoked, found.code))

        await asyncio.to_thread(client.verify_key, "no key")
        stream = await worker.stream()
        await stream.joined()
        follower = Follower(stream)
        serving = asyncio.ensure_future(follower.serve())
        await until(lambda: client.hold_state.lease_seconds)
        threads = [threading.Thread(target=verify) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for number, text in enumerate(texts, 1):
            await until(lambda text=text: text in accepted)  # type: ignore[misc]
            await follower.revoke(number, text)
            answered.add(text)
        is_over.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(client.close)
        await serving
    assert faults == []
    assert accepted == answered == set(texts)
    # That of the string that is no key.
    assert (worker.asked, client.hold_state.asked) == (1, 1)
    assert client.hold_state.recalled > _KEYS
