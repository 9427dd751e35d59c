"""A stop of the server, as the client of an open connection sees it."""

import asyncio
from contextlib import AsyncExitStack

from authsvc.v1 import key_service_pb2 as pb
from tests.conftest import Clock, serving
from tests.http2 import ACK, PING, frame, message
from tests.lane.cases import Known
from tests.lane.exchange import Exchange, data, headers


class _Slow(Exchange):
    """A client that acknowledges pings when the test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pings: list[bytes] = []
        super().__init__(reader, writer)

    def acknowledge(self) -> None:
        for ping in self.pings:
            self.write(frame(PING, ACK, 0, ping))

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == PING and not flags & ACK:
            self.pings.append(payload)
        else:
            super()._take(kind, flags, stream, payload)


async def test_a_call_that_is_on_its_way_is_answered(database_url: str, clock: Clock) -> None:
    """Until the client has read that it is to leave, its calls are answered, and not refused."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(database_url, clock, transport="lane"))
        await service.admin.VerifyKey(key_string="x")
        request = message(pb.VerifyKeyRequest(key_string="x").SerializeToString())
        fields = headers(Known(service.admin_key, "").fields(), stream=1)
        client = await _Slow.open(service.address)
        await service.channel.close()
        stopping = asyncio.create_task(stack.pop_all().aclose())
        try:
            await client.until(lambda: client.goaways == 1)
            client.write(fields + data(request, stream=1, end=True))
            assert (await client.ended(1)).value("grpc-status") == "0"
            client.acknowledge()  # type: ignore[attr-defined]  # it is one of ours
            await client.closed()
            assert (client.goaways, client.goaway) == (2, (0, b""))
        finally:
            await client.close()
            await stopping
