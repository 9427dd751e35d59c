"""Calls that make a new key, and how its key string is printed."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import ClientError, Metadata, calling, notes
from authsvc.cli.key_table import key_table
from authsvc.model.key_string import redact
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import key_service_pb2_grpc

RequestId = Annotated[str, Parameter(help="An id that makes the call safe to retry.")]
SealTo = Annotated[
    str, Parameter(help="A public key of age, age1...: print the key string encrypted to it, for `age -d`.")
]
# A stub (its asynchronous type exists only for the type checker) and the metadata to call it with.
_Service = tuple["key_service_pb2_grpc.KeyServiceAsyncStub", Metadata]


@asynccontextmanager
async def service(*, needs_key: bool = True) -> AsyncIterator[_Service]:
    """Yield a stub of the key service, and the metadata to call it with."""
    async with calling(needs_key=needs_key) as (channel, metadata):
        stub: key_service_pb2_grpc.KeyServiceAsyncStub = key_service_pb2_grpc.KeyServiceStub(channel)
        yield stub, metadata


async def mint(
    request: pb.CreateKeyRequest | pb.RotateKeyRequest | pb.RotateSelfRequest, seal_to: str
) -> None:
    """Create or rotate a key, and print the new key string, sealed if there is a recipient."""
    if redact(seal_to) != seal_to:  # Do not send it either.
        raise ClientError(
            "--seal-to is a secret; give the public key, the line age1... that age-keygen prints, and "
            "replace the secret if others saw it"
        )
    request.seal_to = seal_to
    async with service() as (stub, metadata):
        response: pb.CreateKeyResponse | pb.RotateKeyResponse | pb.RotateSelfResponse
        match request:
            case pb.CreateKeyRequest():
                response = await stub.CreateKey(request, metadata=metadata)
            case pb.RotateKeyRequest():
                response = await stub.RotateKey(request, metadata=metadata)
            case pb.RotateSelfRequest():
                response = await stub.RotateSelf(request, metadata=metadata)
    if seal_to and not response.sealed_key_string:
        raise ClientError(
            f"the service is too old for --seal-to: the key string of {response.key.key_id} was not sealed, "
            "and is not shown; revoke this key"
        )
    is_confined = isinstance(request, pb.CreateKeyRequest) and request.allowed_networks
    if is_confined and not response.key.allowed_networks:
        raise ClientError(
            f"the service is too old for --network: {response.key.key_id} works from anywhere, and its key "
            "string is not shown; revoke this key"
        )
    is_limited = isinstance(request, pb.CreateKeyRequest) and request.rate_limits
    if is_limited and not response.key.rate_limits:
        raise ClientError(
            f"the service is too old for --rate-limit: {response.key.key_id} has no limit, and its key "
            "string is not shown; revoke this key"
        )
    has_credits = isinstance(request, pb.CreateKeyRequest) and request.HasField("credits")
    if has_credits and not response.key.HasField("credits"):
        raise ClientError(
            f"the service is too old for credits: {response.key.key_id} can be used without end, and its key "
            "string is not shown; revoke this key"
        )
    if isinstance(request, pb.CreateKeyRequest) and request.key_hash:
        if response.key_string:
            raise ClientError(
                f"the service is too old for --key-hash: {response.key.key_id} has another key string, which "
                "is not shown; revoke this key"
            )
        notes.print(key_table([response.key]))
        return
    if sys.stdout.isatty():
        sealed = ", sealed" if seal_to else ""
        notes.print(f"The key string{sealed}, which is shown only once:")
    print(response.key_string or response.sealed_key_string.rstrip("\n"))
    notes.print(key_table([response.key]))
