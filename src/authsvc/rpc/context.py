"""What endpoints use of a call's context, and the plain values that are read from it."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import grpc

from authsvc.entrance.bearer import bearer_credential
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.rpc.peer import address_of
from authsvc.telemetry.current_call import REQUEST_ID
from authsvc.verify.clock import Stopwatch


class Context(Protocol):
    """A call, as grpc.aio's ServicerContext of a stream shows it; `lane.stream` has another one."""

    def peer(self) -> str:
        """Return the other end of the connection, in the form of `rpc.peer`."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return the headers of the call; the lane has only those that `incoming_call` reads."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what is known of the client's certificate, by gRPC's names."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, None if it has none."""

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""

    async def write(self, message: bytes) -> None:
        """Send a message; return when the connection has taken it."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called when the answer is sent, or the call is given up."""

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """Send this after the answer."""

    async def abort(self, code: grpc.StatusCode, details: str = "") -> Any:
        """End the call by a status, and raise `grpc.aio.AbortError`."""

    async def abort_with_status(self, status: grpc.Status) -> Any:
        """End the call by a status with details, and raise `grpc.aio.AbortError`."""


class WholeCall(Context, Protocol):
    """A call whose whole message has arrived."""

    #: Whose the answer is, once that is known: see `rpc.answers`.
    account: str


# Seconds that an answer gets to arrive before the caller's deadline.
_ANSWER_SECONDS = 0.2


def incoming_call(context: Context, peer: str, stopwatch: Stopwatch, *, with_deadline: bool) -> IncomingCall:
    """Return the plain values of a call. The certificate is read only if no credential was sent."""
    credentials: list[str | None] = []
    forwarded_for: list[str] = []
    named = ""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            credentials.append(bearer_credential(str(value)))
        elif name == "x-forwarded-for":
            forwarded_for.append(str(value))
        elif name == REQUEST_ID and not named:
            named = str(value)
    return IncomingCall(
        address_of(peer),
        credentials,
        forwarded_for,
        "" if credentials else certificate_name(context.auth_context()),
        named,
        _deadline(context, stopwatch) if with_deadline else math.inf,
    )


def certificate_name(auth_context: Mapping[str, Iterable[bytes]]) -> str | None:
    """Return the SPIFFE id of a client's certificate, or else its subject; "" when it has no name.

    None without a certificate: where one is optional, nothing at all is known of such a client. grpcio always
    knows something.

    Authorities that issue SPIFFE ids often give the same subject to all. A certificate with two SPIFFE ids
    breaks the rules of SPIFFE, and has no name.
    """
    if not auth_context:
        return None
    for spiffe_id in auth_context.get("peer_spiffe_id", ()):
        return spiffe_id.decode("utf-8", "replace")
    if any(uri.lower().startswith(b"spiffe:") for uri in auth_context.get("peer_uri", ())):
        return ""
    return b"".join(auth_context.get("x509_subject", ())).decode("utf-8", "replace")


def _deadline(context: Context, stopwatch: Stopwatch) -> float:
    """Return until when the caller waits, by the stopwatch: a little less, so that our answer arrives."""
    left = context.time_remaining()
    return math.inf if left is None else stopwatch() + max(0.5 * left, left - _ANSWER_SECONDS)
