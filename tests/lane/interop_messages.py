"""The messages of gRPC's interoperability tests, from `interop.proto`."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

_PROTO = Path(__file__).with_name("interop.proto")


@cache
def _pool() -> DescriptorPool:
    with TemporaryDirectory() as directory:
        out = Path(directory) / "set"
        arguments = ["protoc", f"-I{_PROTO.parent}", f"--descriptor_set_out={out}", str(_PROTO)]
        assert protoc.main(arguments) == 0, grpc_tools
        described = FileDescriptorSet.FromString(out.read_bytes())
    pool = DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return pool


def message(name: str) -> Any:
    """Return the class of a message."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"grpc.testing.{name}"))
