"""Connect's conformance service, served by the product's handler: a program that the runner starts.

Only the handler and the server are the product's: behind them are no callers, no limits and no database.
Headers of answers, which no RPC of ours has, are added here.
"""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from authsvc.model.errors import AuthsvcError
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.context import Context
from authsvc.rpc.lane import message as lane
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.status import status_of
from authsvc.web import connect
from authsvc.web.rpcs import Method, Rpcs

_PROTO = Path(__file__).with_name("service.proto")
_PACKAGE = "connectrpc.conformance.v1"
_POOL = descriptor_pool.Default()
# Of the call at hand: the headers that have come, and those to send.
_CAME: ContextVar[list[tuple[bytes, bytes]]] = ContextVar("came")
_SENT: ContextVar[list[tuple[bytes, bytes]]] = ContextVar("sent")


def describe() -> None:
    """Make the messages known, also to the JSON of `google.protobuf.Any`."""
    with TemporaryDirectory() as directory:
        out = Path(directory) / "set"
        arguments = [f"-I{_PROTO.parent}", f"--descriptor_set_out={out}", str(_PROTO)]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
        for file in FileDescriptorSet.FromString(out.read_bytes()).file:
            _POOL.Add(file)


def message(name: str) -> Any:
    """Return the class of a message."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


class Conformance(Rpcs):
    """The RPCs of the service."""

    def __init__(self) -> None:
        self.entrance: Any = SimpleNamespace(strangers=SimpleNamespace(wait=_at_once))
        service = _POOL.FindServiceByName(f"{_PACKAGE}.ConformanceService")
        self.methods = {
            f"/{service.full_name}/{method.name}": Method(
                Rpc(f"/{service.full_name}/{method.name}", _handler(method.name)),
                method,
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
            )
            for method in service.methods
        }


async def _at_once(_: str) -> None:
    pass


def _handler(name: str) -> Any:
    def handle(_: object, context: Context) -> Coroutine[Any, Any, bytes | None]:
        return _unimplemented(context) if name == "Unimplemented" else _answer(name, context)

    return handle


async def _unimplemented(context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not implemented")


async def _answer(name: str, context: Context) -> bytes:
    """Answer as the request says, with what has come."""
    try:
        request = message(f"{name}Request").FromString(await context.read())
    except AuthsvcError as error:
        # The runner knows no details of ours.
        await context.abort(status_of(error).code, error.message)
    asked = request.response_definition
    info = message("ConformancePayload").RequestInfo()
    came = [(name.decode(), value.decode()) for name, value in _CAME.get()]
    for header in dict.fromkeys(name for name, _ in came):
        info.request_headers.add(name=header, value=[value for known, value in came if known == header])
    if (timeout := dict(came).get("connect-timeout-ms")) is not None:
        info.timeout_ms = int(timeout)
    info.requests.add().Pack(request)
    _SENT.get().extend(
        (header.name.lower().encode(), value.encode())
        for header in asked.response_headers
        for value in header.value
    )
    context.set_trailing_metadata(
        tuple((header.name.lower(), value) for header in asked.response_trailers for value in header.value)
    )
    await asyncio.sleep(asked.response_delay_ms / 1000)
    if asked.WhichOneof("response") == "error":
        packed = AnyMessage()
        packed.Pack(info)
        status = Status(code=asked.error.code, message=asked.error.message)
        status.details.extend([*asked.error.details, packed])
        await context.abort_with_status(rpc_status.to_status(status))
    payload = message("ConformancePayload")(data=asked.response_data, request_info=info)
    answer: bytes = message(f"{name}Response")(payload=payload).SerializeToString()
    return answer


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Note the headers of a request, and add those of the answer."""
    _CAME.set(scope["headers"])
    _SENT.set([])

    async def sending(event: Any) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event["headers"], *_SENT.get()]
        await send(event)

    await _CONNECT(scope, receive, sending)


async def main() -> None:
    """Serve until the runner ends us."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    asked = message("ServerCompatRequest").FromString(source.read(int.from_bytes(source.read(4))))
    if asked.message_receive_limit:
        for module in (connect, lane):
            setattr(module, "MAX_MESSAGE_BYTES", asked.message_receive_limit)  # noqa: B010 - a type for the type checker
    server = AsgiServer(application, max_body_bytes=1 << 30)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    told = message("ServerCompatResponse")(host="127.0.0.1", port=port).SerializeToString()
    sink.write(len(told).to_bytes(4) + told)
    sink.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    describe()
    _CONNECT = connect.Connect(Conformance())
    asyncio.run(main())
