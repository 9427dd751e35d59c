"""RPCs called for what is no RPC, such as an introspection or a page, in the name of whoever asks for it."""

from typing import Any

from google.protobuf.message import Message

from authsvc.web.rpcs import Client, Method, Refusal, Rpcs, Trailers


class RefusedError(Exception):
    """The RPC ended by an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code.name)
        self.refusal = refusal


class Kept:
    """An exchange whose request is there already, and whose answer is kept; see `rpcs.Exchange`."""

    def __init__(self, request: Message) -> None:
        self._request = request
        self.message = b""
        self.refusal: Refusal | None = None

    async def read(self) -> bytes:
        """Return the request."""
        return self._request.SerializeToString()

    async def answer(self, message: bytes, trailers: Trailers) -> None:
        """Keep the answer."""
        self.message = message

    async def refuse(self, refusal: Refusal, trailers: Trailers) -> None:
        """Keep the error."""
        self.refusal = refusal


def method_of(rpcs: Rpcs, name: str) -> Method:
    """Return an RPC of `authsvc.v1`, such as `KeyService/GetKey`."""
    return rpcs.methods[f"/authsvc.v1.{name}"]


async def ask(
    rpcs: Rpcs, name: str, client: Client, request: Message, max_seconds: float | None = None
) -> Any:
    """Return the answer of an RPC of `authsvc.v1`, such as `KeyService/GetKey`; raise RefusedError."""
    method, exchange = method_of(rpcs, name), Kept(request)
    await rpcs.call(method, client, exchange, max_seconds)
    if exchange.refusal is not None:
        raise RefusedError(exchange.refusal)
    return method.answer_type.FromString(exchange.message)
