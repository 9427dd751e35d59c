"""A client of the Connect protocol that looks like a channel of gRPC, so that tests can use either."""

import json
import ssl
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import httpcore
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from tests.rpc.test_access_table import METHODS

JSON, PROTO = "application/json", "application/proto"
Headers = Sequence[tuple[str, str]]
# What a client makes of the names of codes; this one is spelled differently.
_CODES = {code.name.lower(): code for code in grpc.StatusCode} | {"canceled": grpc.StatusCode.CANCELLED}


class Answer(NamedTuple):
    """An answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which has to be JSON."""
        assert self.headers["content-type"] == JSON
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The name of the code of an error."""
        return str(self.json["code"])


class Http:
    """A client of one port, for instance `await http.post("/authsvc.v1.KeyService/GetKey", b"{}")`."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, origin: str) -> None:
        self._pool, self.origin = pool, origin

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Answer:
        """Send a request with these headers, and return the answer as it came."""
        answer = await self._pool.request(method, f"{self.origin}{path}", headers=list(headers), content=body)
        found = {name.decode().lower(): value.decode() for name, value in answer.headers}
        return Answer(answer.status, found, answer.content)

    async def post(
        self,
        path: str,
        body: bytes | str = b"{}",
        key: str | None = None,
        media_type: str = JSON,
        *more: tuple[str, str],
    ) -> Answer:
        """Call an RPC with a message as it is."""
        headers = [("content-type", media_type), *more]
        if key is not None:
            headers.append(("authorization", f"Bearer {key}"))
        return await self.send("POST", path, body.encode() if isinstance(body, str) else body, headers)


@asynccontextmanager
async def http_client(origin: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Http]:
    """Yield a client of a port."""
    async with httpcore.AsyncConnectionPool(ssl_context=context) as pool:
        yield Http(pool, origin)


class HttpChannel:
    """Calls unary RPCs by Connect; errors are those of gRPC."""

    def __init__(self, http: Http, media_type: str = JSON, *, gzip: bool = False) -> None:
        self._http, self._media_type, self._gzip = http, media_type, gzip

    def unary_unary(self, path: str, *_: object, **__: object) -> Callable[..., Any]:
        """Return what calls an RPC."""
        answer_type = GetMessageClass(METHODS[path.rpartition("/")[2]].output_type)

        async def call(request: Message, metadata: Headers = (), timeout: float = 30) -> Message:
            headers = [
                ("content-type", self._media_type),
                ("connect-protocol-version", "1"),
                ("connect-timeout-ms", str(round(1000 * timeout))),
                ("accept-encoding", "gzip" if self._gzip else "identity"),
                *metadata,
            ]
            is_json = self._media_type == JSON
            body = MessageToJson(request).encode() if is_json else request.SerializeToString()
            if self._gzip:
                packing = zlib.compressobj(wbits=31)
                body = packing.compress(body) + packing.flush()
                headers.append(("content-encoding", "gzip"))
            answer = await self._http.send("POST", path, body, headers)
            data = answer.body
            if answer.headers.get("content-encoding") == "gzip":
                data = zlib.decompress(data, wbits=31)
            if answer.status != 200:
                raise error_of(answer)
            assert answer.headers["content-type"] == self._media_type
            return Parse(data, answer_type()) if is_json else answer_type.FromString(data)

        return call

    unary_stream = stream_unary = stream_stream = unary_unary


def error_of(answer: Answer) -> grpc.aio.AioRpcError:
    """Return what a client of gRPC would raise for an error."""
    told = answer.json
    status = Status(code=_CODES[told["code"]].value[0], message=told.get("message", ""))
    for detail in told.get("details", ()):
        value = b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
        status.details.add(type_url=f"type.googleapis.com/{detail['type']}", value=value)
    trailers = [(name.removeprefix("trailer-"), value) for name, value in answer.headers.items()]
    trailing = [(name, value) for name, value in trailers if name.startswith("authsvc-")]
    trailing.append((rpc_status.GRPC_DETAILS_METADATA_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(
        _CODES[told["code"]], grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), told.get("message", "")
    )
