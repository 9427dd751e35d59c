"""Reads the plain values of a call from gRPC's context."""

import math
from collections.abc import Iterable, Mapping

import grpc

from authsvc.entrance.bearer import bearer_credential
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.rpc.peer import address_of
from authsvc.verify.clock import Stopwatch

Context = grpc.aio.ServicerContext[bytes, bytes]

# Seconds that an answer gets to arrive before the caller's deadline.
_ANSWER_SECONDS = 0.2


def incoming_call(context: Context, peer: str, stopwatch: Stopwatch, *, with_deadline: bool) -> IncomingCall:
    """Return the plain values of a call. The certificate is read only if no credential was sent."""
    credentials: list[str | None] = []
    forwarded_for: list[str] = []
    request_id = ""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            credentials.append(bearer_credential(str(value)))
        elif name == "x-forwarded-for":
            forwarded_for.append(str(value))
        elif name == "x-request-id" and not request_id:
            request_id = str(value)
    return IncomingCall(
        address_of(peer),
        credentials,
        forwarded_for,
        "" if credentials else certificate_name(context.auth_context()),
        request_id,
        _deadline(context, stopwatch) if with_deadline else math.inf,
    )


def certificate_name(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """Return the SPIFFE id of a client's certificate, or else its subject; "" when it has no name.

    Authorities that issue SPIFFE ids often give the same subject to all. A certificate with two SPIFFE ids
    breaks the rules of SPIFFE, and has no name.
    """
    for spiffe_id in auth_context.get("peer_spiffe_id", ()):
        return spiffe_id.decode("utf-8", "replace")
    if any(uri.lower().startswith(b"spiffe:") for uri in auth_context.get("peer_uri", ())):
        return ""
    return b"".join(auth_context.get("x509_subject", ())).decode("utf-8", "replace")


def _deadline(context: Context, stopwatch: Stopwatch) -> float:
    """Return until when the caller waits, by the stopwatch: a little less, so that our answer arrives."""
    left = context.time_remaining()
    return math.inf if left is None else stopwatch() + max(0.5 * left, left - _ANSWER_SECONDS)
