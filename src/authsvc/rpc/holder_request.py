"""The messages of clients that verify in their own process."""

from google.protobuf.message import DecodeError

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.rpc.validation import validator
from authsvc.v1 import holder_service_pb2 as pb

# A thousand uses of sessions, most of whose browsers are the same ones, have less.
_MAX_BYTES = 1024 * 1024
_validate = validator(pb.FollowRequest.DESCRIPTOR)
#: Messages of a number alone, for which there is no rule. Changes wait for them.
ONLY_NUMBERS = frozenset(("confirm", "renew"))


def read(data: bytes) -> pb.FollowRequest:
    """Return a message of a client; raise InvalidArgument, without the credential in it."""
    if len(data) > _MAX_BYTES:
        problem = f"has {len(data)} bytes; a message of this kind needs at most {_MAX_BYTES}"
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    try:
        request = pb.FollowRequest.FromString(data)
    except DecodeError as error:
        problem = "is not a valid FollowRequest, or holds text that is not UTF-8"
        raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
    if request.WhichOneof("message") not in ONLY_NUMBERS:
        _validate(request)
    return request
