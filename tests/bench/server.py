"""The process under load: the service as `authsvc serve` runs it, and two RPCs that do nothing.

Both take VerifyKey's request and return one constant VerifyKeyResponse, in the same
process, on the same port, with the same options:

- `authsvc.bench.v1.Null/VerifyKey` goes through our endpoint: authenticate, parse, validate.
- `authsvc.bench.v1.Bare/VerifyKey` is a handler of grpc.aio without any of our code.

Last uses of keys are not written and other workers are not checked meanwhile, since both would be
counted as checkouts of the database. The activity of sessions is written as usual.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from unittest import mock

import grpc
import uvloop
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc import app
from authsvc.app import serving
from authsvc.config.settings import load_settings
from authsvc.model.caller import Caller
from authsvc.model.key_string import redact
from authsvc.net.listen_address import ListenAddress
from authsvc.net.listener import Listener
from authsvc.rpc import server as rpc_server
from authsvc.rpc.lane import server as lane
from authsvc.rpc.served import Served
from authsvc.rpc.service import Service
from authsvc.rpc.tls import Tls
from authsvc.telemetry import Metrics, configure_logging
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import options_pb2, resources_pb2
from authsvc.verify.lease import Lease
from tests.certificates import Authority

VERIFY = "/authsvc.v1.KeyService/VerifyKey"
VERIFY_SESSION = "/authsvc.v1.SessionService/VerifySession"
CREATE_SESSION = "/authsvc.v1.SessionService/CreateSession"
BATCH_VERIFY = "/authsvc.v1.KeyService/BatchVerifyKeys"
NULL = "/authsvc.bench.v1.Null/VerifyKey"
LEASELESS = "leaseless"
ANONYMOUS = "anonymous"
BARE = "/authsvc.bench.v1.Bare/VerifyKey"

_CONSTANT = pb.VerifyKeyResponse(
    valid=True,
    code=resources_pb2.VERDICT_CODE_VALID,
    key_id="key_01jd3v5q8m0k2n4p6r8s0t2v4w",
    owner_id="acme",
    scopes=("orders:read", "orders:write", "reports:read"),
    expire_time=Timestamp(seconds=1_900_000_000),
)


class Process:
    """The running process, as the measuring process sees it."""

    def __init__(self, process: asyncio.subprocess.Process, ports: Sequence[int], path: str) -> None:
        self._process = process
        #: The lane, in plain text and by TLS, and the server of grpcio.
        self.address, self.tls_address, self.grpcio_address = (f"127.0.0.1:{port}" for port in ports)
        #: The Unix socket of the lane.
        self.path = path

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def counts(self) -> dict[str, float]:
        """Return the metrics of the service, for instance `authsvc_verdicts_total VALID`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        counts: dict[str, float] = json.loads(await _line(self._process))
        return counts


@asynccontextmanager
async def running(
    database_url: str,
    *arguments: str,
    core: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Process]:
    """Run the process while the block runs, on one `core` if it is given, with more `settings`.

    LEASELESS makes it verify without checking the lease; ANONYMOUS lets every caller verify.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSVC_")} | {
        "AUTHSVC_DATABASE_URL": database_url,
        "AUTHSVC_LISTEN": "127.0.0.1:0",
        "AUTHSVC_USAGE_INTERVAL": "3600",
        "AUTHSVC_LEASE": "3600",
        "AUTHSVC_SCOPES": "*",
        # All load is for one owner.
        "AUTHSVC_CALLER_LIMIT": "0",
        "AUTHSVC_LOG_LEVEL": "error",
        **settings,
    }
    if ANONYMOUS in arguments:
        environment["AUTHSVC_ANONYMOUS_SCOPES"] = "keys:verify"
    process = await asyncio.create_subprocess_exec(
        *(() if core is None else ("taskset", "-c", str(core))),
        *(sys.executable, "-m", "tests.bench.server", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        yield Process(process, *json.loads(await _line(process)))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("the process under load has ended; its last words are above")
    return line


def _null_descriptor() -> ServiceDescriptor:
    """Describe a service with one RPC that differs from VerifyKey only in the service's name."""
    described = pb.DESCRIPTOR.services_by_name["KeyService"].methods_by_name["VerifyKey"]
    file = FileDescriptorProto(
        name="authsvc/bench/v1/null.proto", package="authsvc.bench.v1", syntax="proto3"
    )
    file.dependency.extend((pb.DESCRIPTOR.name, options_pb2.DESCRIPTOR.name))
    described.CopyToProto(file.service.add(name="Null").method.add())
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("authsvc.bench.v1.Null")


class _Null:
    """A service that does nothing behind the endpoint."""

    descriptor: ClassVar[ServiceDescriptor] = _null_descriptor()

    async def VerifyKey(self, caller: Caller, request: pb.VerifyKeyRequest) -> pb.VerifyKeyResponse:
        return _CONSTANT


async def _answer(request: bytes, context: object) -> bytes:
    return _ANSWER


_ANSWER = _CONSTANT.SerializeToString()
_BARE: "grpc.RpcMethodHandler[bytes, bytes]" = grpc.unary_unary_rpc_method_handler(_answer)


class _Handlers(rpc_server.Handlers):
    """The handlers of the service, and the one that does nothing."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler that does nothing for its RPC."""
        return _BARE if handler_call_details.method == BARE else super().service(handler_call_details)


class _Servers(lane.Server):
    """The lane, with two more servers of the same RPCs beside it."""

    ports: ClassVar[list[int]] = []
    path = str(Path(tempfile.mkdtemp(), "lane.sock"))

    async def start(self, listen: ListenAddress) -> int:
        """Start all of them; return the port of the lane."""
        port = await super().start(listen)
        with tempfile.TemporaryDirectory() as directory:
            cert, key = Path(directory, "cert.pem"), Path(directory, "key.pem")
            Authority().issue().write(cert, key)
            others = (lane.Server(self.served, tls=Tls(cert, key)), rpc_server.Server(self.served))
        self.ports[:] = [port, *[await other.start(listen) for other in others]]
        listening = socket.socket(socket.AF_UNIX)
        listening.setblocking(False)
        listening.bind(self.path)
        Listener(listening).begin(self._accepted)
        return port


def _served(services: Sequence[Service], *arguments: Any, **options: Any) -> Served:
    return Served((*services, _Null()), *arguments, **options)


async def _serve() -> None:
    if LEASELESS in sys.argv:
        mock.patch.object(Lease, "check", return_value=None).start()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, redact)
    asked = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    with (
        mock.patch.object(serving, "Served", _served),
        mock.patch.dict(serving._TRANSPORTS, lane=_Servers),
        mock.patch.object(rpc_server, "Handlers", _Handlers),
    ):
        async with app.running(settings) as service:
            print(json.dumps([_Servers.ports, _Servers.path]), flush=True)
            while await asked.readline():
                print(json.dumps(_samples(service.metrics)), flush=True)


def _samples(metrics: Metrics) -> dict[str, float]:
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
    }


if __name__ == "__main__":
    uvloop.run(_serve())
