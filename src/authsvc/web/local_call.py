"""An RPC called for something that is no RPC, such as an introspection, by the one who asks for it."""

from typing import Any

from google.protobuf.message import Message

from authsvc.web.rpcs import Client, Refusal, Rpcs, Trailers


class RefusedError(Exception):
    """The RPC ended by an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code.name)
        self.refusal = refusal


class _Exchange:
    """A request that is there already, and its answer; see `rpcs.Exchange`."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.message = b""
        self.refusal: Refusal | None = None

    async def read(self) -> bytes:
        return self._request

    async def answer(self, message: bytes, trailers: Trailers) -> None:
        self.message = message

    async def refuse(self, refusal: Refusal, trailers: Trailers) -> None:
        self.refusal = refusal


async def ask(rpcs: Rpcs, path: str, client: Client, request: Message) -> Any:
    """Return the answer of an RPC; raise RefusedError."""
    method, exchange = rpcs.methods[path], _Exchange(request.SerializeToString())
    await rpcs.call(method, client, exchange)
    if exchange.refusal is not None:
        raise RefusedError(exchange.refusal)
    return method.answer_type.FromString(exchange.message)
