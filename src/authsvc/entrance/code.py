"""The code of a domain error: a number of `google.rpc.Code`, which gRPC and AIP-193 share."""

from google.rpc import code_pb2

from authsvc.model import errors

#: The code of a fault that is no domain error.
INTERNAL: int = code_pb2.INTERNAL
#: The code of a request that a proxy asks about in the wrong way.
INVALID_ARGUMENT: int = code_pb2.INVALID_ARGUMENT

_CODES: dict[type[errors.AuthsvcError], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.AlreadyDone: code_pb2.FAILED_PRECONDITION,
    errors.TooLarge: code_pb2.RESOURCE_EXHAUSTED,
    errors.Conflict: code_pb2.ABORTED,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
}


def code_of(error: errors.AuthsvcError) -> int:
    """Return the code of an error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def code_name(code: int) -> str:
    """Return the name of a code, for instance `NOT_FOUND`."""
    name: str = code_pb2.Code.Name(code)
    return name
