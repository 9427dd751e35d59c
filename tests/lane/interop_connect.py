"""Cases of gRPC's interoperability tests by the client of connectrpc, which is none of gRPC's own.

Run by the Python that has it. Arguments: the address of the test service, and its messages as a
FileDescriptorSet. Ends by 0 if all cases hold.
"""
# mypy: ignore-errors

import sys
from pathlib import Path

from connectrpc.client import ConnectClientSync
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessages
from pyqwest import HTTPVersion, SyncClient, SyncHTTPTransport

ADDRESS, DESCRIBED = sys.argv[1:]
MESSAGES = GetMessages(FileDescriptorSet.FromString(Path(DESCRIBED).read_bytes()).file)
_SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def message(name):
    return MESSAGES[f"grpc.testing.{name}"]


def method(name, asked, answered, service="TestService", kind=StreamType.UNARY):
    return MethodInfo(
        name=name,
        service_name=f"grpc.testing.{service}",
        input=message(asked),
        output=message(answered),
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


EMPTY = method("EmptyCall", "Empty", "Empty")
UNARY = method("UnaryCall", "SimpleRequest", "SimpleResponse")


def refused(made):
    """Return the code and the message of a call that fails."""
    try:
        made()
    except ConnectError as error:
        return error.code, error.message
    raise AssertionError("it was answered")


def check(client, compression):
    client.execute_unary(request=message("Empty")(), method=EMPTY)
    large = message("SimpleRequest")(response_size=314159, payload=message("Payload")(body=bytes(271828)))
    answer = client.execute_unary(request=large, method=UNARY)
    assert len(answer.payload.body) == 314159, compression
    status = message("EchoStatus")(code=2, message=_SPECIAL)
    asked = message("SimpleRequest")(response_status=status)
    told = refused(lambda: client.execute_unary(request=asked, method=UNARY))
    assert told == (Code.UNKNOWN, _SPECIAL), told
    for service in "TestService", "UnimplementedService":
        unknown = method("UnimplementedCall", "Empty", "Empty", service)
        told = refused(lambda made=unknown: client.execute_unary(request=message("Empty")(), method=made))
        assert told[0] is Code.UNIMPLEMENTED, told
    too_large = message("SimpleRequest")(payload=message("Payload")(body=bytes(2 * 1024 * 1024)))
    told = refused(lambda: client.execute_unary(request=too_large, method=UNARY))
    assert told[0] is Code.RESOURCE_EXHAUSTED, told
    streamed = method(
        "StreamingOutputCall",
        "StreamingOutputCallRequest",
        "StreamingOutputCallResponse",
        kind=StreamType.SERVER_STREAM,
    )
    slow = message("StreamingOutputCallRequest")(
        response_parameters=[message("ResponseParameters")(size=1, interval_us=60_000_000)]
    )
    told = refused(lambda: list(client.execute_server_stream(request=slow, method=streamed, timeout_ms=50)))
    assert told[0] is Code.DEADLINE_EXCEEDED, told


for compression in None, GzipCompression():
    caller = ConnectClientSync(
        f"http://{ADDRESS}",
        protocol=ProtocolType.GRPC,
        codec=google_protobuf_binary_codec(),
        send_compression=compression,
        http_client=SyncClient(SyncHTTPTransport(http_version=HTTPVersion.HTTP2)),
    )
    check(caller, compression)
