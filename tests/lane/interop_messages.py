"""The messages of gRPC's interoperability tests, from `interop.proto`."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PROTO = Path(__file__).with_name("interop.proto")


@cache
def described() -> bytes:
    """Return the messages as a FileDescriptorSet."""
    with TemporaryDirectory() as directory:
        out = Path(directory) / "set"
        arguments = [f"-I{PROTO.parent}", f"--descriptor_set_out={out}", str(PROTO)]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
        return out.read_bytes()


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(described()).file:
        pool.Add(file)
    return pool


def message(name: str) -> Any:
    """Return the class of a message."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"grpc.testing.{name}"))
