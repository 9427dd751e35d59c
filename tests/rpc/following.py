"""A client that follows a worker, message by message, as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from authsvc.v1 import holder_service_pb2 as pb
from authsvc.v1.holder_service_pb2_grpc import HolderServiceStub

KEY, SESSION = pb.HOLDER_CREDENTIAL_KIND_KEY, pb.HOLDER_CREDENTIAL_KIND_SESSION


class FollowingClient:
    """One stream. What it reads is confirmed only when the test says so."""

    def __init__(self, channel: grpc.aio.Channel, key_string: str) -> None:
        metadata = [("authorization", f"Bearer {key_string}")]
        self.call: Any = HolderServiceStub(channel).Follow(metadata=metadata, timeout=120)
        self._number = 0

    async def send(self, **fields: Any) -> None:
        """Send a message, such as `renew=…`."""
        await self.call.write(pb.FollowRequest(**fields))

    async def read(self, kind: str) -> Any:
        """Return the next message, which has to be of this kind."""
        response: Any = await self.call.read()
        assert response is not grpc.aio.EOF, f"{await self.call.code()}: {await self.call.details()}"
        assert response.WhichOneof("message") == kind, response
        return getattr(response, kind)

    async def join(self, *, capacity: int = 100, instance: str = "test", rules: int = 0) -> Any:
        """Join, and return the answer."""
        await self.send(join=pb.FollowRequest.Join(instance=instance, capacity=capacity, rules=rules))
        return await self.read("joined")

    async def hold(self, text: str, kind: pb.HolderCredentialKind.ValueType = KEY) -> Any:
        """Ask for a credential, and return the answer."""
        self._number += 1
        await self.send(hold=pb.FollowRequest.Hold(number=self._number, credential=text, kind=kind))
        held = await self.read("held")
        assert held.number == self._number
        return held

    async def renew(self) -> Any:
        """Ask for a sub-lease, and return the grant."""
        self._number += 1
        await self.send(renew=pb.FollowRequest.Renew(number=self._number))
        grant = await self.read("grant")
        assert grant.number == self._number
        return grant

    async def confirm(self, order: Any) -> None:
        """Confirm a `forget` or an `end`."""
        await self.send(confirm=pb.FollowRequest.Confirm(number=order.number))

    async def ended(self) -> grpc.StatusCode:
        """Return the status of the stream, which ends without another message."""
        assert await self.call.read() is grpc.aio.EOF
        code: grpc.StatusCode = await self.call.code()
        return code


@asynccontextmanager
async def following(address: str, key_string: str) -> AsyncIterator[FollowingClient]:
    """Yield a client that has a connection of its own; at the end it is cut off."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        client = FollowingClient(channel, key_string)
        try:
            yield client
        finally:
            client.call.cancel()
            await asyncio.sleep(0)
