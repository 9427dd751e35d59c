"""The lane and grpcio's server, asked the same by raw frames, say the same, or differ on purpose.

What they have to agree on: the status, the message and the details, the bytes of the answer, and that the
connection goes on. gRPC's PROTOCOL-HTTP2.md decides where grpcio's own reading of it is lenient or odd.
"""

from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

import grpc
import pytest
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.conftest import Clock, new_database, serving
from tests.lane.cases import CASES, Known, Send
from tests.lane.exchange import Exchange, Said, data, headers

_CODES = {str(code.value[0]): code.name for code in grpc.StatusCode}
_ERRORS = {
    1: "PROTOCOL_ERROR",
    2: "INTERNAL_ERROR",
    3: "FLOW_CONTROL_ERROR",
    5: "STREAM_CLOSED",
    6: "FRAME_SIZE_ERROR",
    9: "COMPRESSION_ERROR",
    11: "ENHANCE_YOUR_CALM",
}
# Only these headers of an answer mean something to clients, so only they are compared.
_COMPARED = {":status", "content-type", "grpc-status", "grpc-message", "grpc-status-details-bin"}


class Outcome(NamedTuple):
    """How an exchange ended."""

    # A status by its name; "HTTP 415"; "RESET ..." and "GOAWAY ..." with the name of the error.
    end: str
    message: str = ""
    details: bytes = b""
    answer: bytes = b""
    # Whether the next call on the connection was answered.
    goes_on: bool = True


def _end(said: Said, exchange: Exchange) -> str:
    if (status := said.value("grpc-status")) is not None:
        return _CODES[status]
    if (http := said.value(":status")) is not None:
        return f"HTTP {http}"
    if said.reset is not None:
        return f"RESET {_ERRORS[said.reset]}"
    return "CLOSED" if exchange.goaway is None else f"GOAWAY {_ERRORS[exchange.goaway[0]]}"


async def outcome(address: str, known: Known, send: Send) -> Outcome:
    """Return how a server takes a case, and a proper call after it."""
    exchange = await Exchange.open(address)
    try:
        await send(exchange, known)
        said = await exchange.ended()
        goes_on = not exchange.is_closed
        if goes_on:
            exchange.write(headers(known.fields(), stream=3) + data(known.message, stream=3, end=True))
            goes_on = (await exchange.ended(3)).value("grpc-status") == "0"
        details = said.value("grpc-status-details-bin") or ""
        return Outcome(
            _end(said, exchange),
            said.value("grpc-message") or "",
            b64decode(details + "=" * (-len(details) % 4)),
            said.data,
            goes_on,
        )
    finally:
        await exchange.close()


# nghttp2 holds every header to RFC 9113, 8.2 and 8.3, and a message to its content-length. Which header is
# malformed is not known, so the status is that of the most likely one, an authorization header without a key.
_RULES_OF_HTTP2 = {
    "a control character in a value": "UNAUTHENTICATED",
    "a content-length that is no number": "UNAUTHENTICATED",
    "a name with a blank": "UNAUTHENTICATED",
    "a name with a colon": "UNAUTHENTICATED",
    "a newline in a value": "UNAUTHENTICATED",
    "a NUL in a value": "UNAUTHENTICATED",
    "a value that begins with a blank": "UNAUTHENTICATED",
    "a value that ends with a blank": "UNAUTHENTICATED",
    "an empty name": "UNAUTHENTICATED",
    "an unknown pseudo-header": "UNAUTHENTICATED",
    "an upper-case name": "UNAUTHENTICATED",
    "CONNECT as RFC 9113 has it": "HTTP 405",
    "connection: close": "UNAUTHENTICATED",
    "content-type 'application/grpc '": "UNAUTHENTICATED",
    "DEL in a value": "UNAUTHENTICATED",
    "extended CONNECT": "UNAUTHENTICATED",
    "keep-alive": "UNAUTHENTICATED",
    "method CONNECT": "UNAUTHENTICATED",
    "no authority": "UNAUTHENTICATED",
    "no method": "UNAUTHENTICATED",
    "no path": "UNAUTHENTICATED",
    "no scheme": "UNAUTHENTICATED",
    "path ''": "UNAUTHENTICATED",
    "path '*'": "UNAUTHENTICATED",
    "path 'authsvc.v1.KeyService/VerifyKey'": "UNAUTHENTICATED",
    "proxy-connection": "UNAUTHENTICATED",
    "te gzip": "UNAUTHENTICATED",
    "te trailers and more": "UNAUTHENTICATED",
    "trailers that do not end the stream": "RESET PROTOCOL_ERROR",
    "trailers with a pseudo-header": "RESET PROTOCOL_ERROR",
    "transfer-encoding": "UNAUTHENTICATED",
    "two paths": "UNAUTHENTICATED",
    "upgrade": "UNAUTHENTICATED",
    "a wrong content-length": "RESET PROTOCOL_ERROR",
}
# The same for frames. grpcio accepts some of these, and waits in vain after others.
_FRAMES_OF_HTTP2 = {
    "a frame that is too long": "GOAWAY FRAME_SIZE_ERROR",
    "a header that breaks the compression": "GOAWAY COMPRESSION_ERROR",
    "a stream that depends on itself": "GOAWAY PROTOCOL_ERROR",
    "an even stream": "GOAWAY PROTOCOL_ERROR",
    "data after the end": "GOAWAY STREAM_CLOSED",
    "data on stream 0": "GOAWAY PROTOCOL_ERROR",
    "padding longer than the frame": "GOAWAY PROTOCOL_ERROR",
    # grpcio does not understand a padded frame that HTTP/2 allows.
    "padding": "OK",
}
# PROTOCOL-HTTP2.md and HTTP name these answers; grpcio accepts what is not gRPC, and resets other methods.
_NOT_GRPC = {
    **{
        f"content-type {kind!r}": "HTTP 415"
        for kind in (
            "",
            "Application/gRPC",
            "application/grpc-web",
            "application/grpcx",
            "application/json",
            "text/html",
        )
    },
    "content-type absent": "HTTP 415",
    **{f"method {method}": "HTTP 405" for method in ("GET", "HEAD", "OPTIONS", "PUT", "post")},
}
_READINGS = {
    # grpcio resets the stream with INTERNAL_ERROR, which clients show as INTERNAL, without a word on why.
    "te absent": "INTERNAL",
    # PROTOCOL-HTTP2.md allows eight digits and no blank; grpc-go refuses them, too.
    "grpc-timeout '1 S'": "INTERNAL",
    "grpc-timeout '123456789S'": "INTERNAL",
    "grpc-timeout '0000000010S'": "INTERNAL",
    "grpc-timeout '100000000000n'": "INTERNAL",
    # What memory answers is answered, however little time is left; with grpcio it is a race.
    "grpc-timeout '1m'": "OK",
    "grpc-timeout '1n'": "OK",
    # With none left, nothing is answered; with grpcio that is a race, too.
    "grpc-timeout '0S'": "DEADLINE_EXCEEDED",
    "grpc-timeout '0n'": "DEADLINE_EXCEEDED",
    # A format is refused when a message uses it, by the status of PROTOCOL-HTTP2.md.
    "grpc-encoding empty, unused": "OK",
    "grpc-encoding unknown, unused": "OK",
    "grpc-encoding unknown, used": "UNIMPLEMENTED",
    "GZIP": "UNIMPLEMENTED",
    "snappy": "UNIMPLEMENTED",
    # The flag is 0 or 1; grpcio takes such a message for an uncompressed one.
    "flag 2": "INTERNAL",
    "flag 255, gzip": "INTERNAL",
    # Metadata that no endpoint reads is not looked at, nor is the scheme.
    "binary metadata in pieces": "OK",
    "binary metadata that is not base64": "OK",
    "scheme ftp": "OK",
    # Beyond four times what the settings allow, the connection ends, so that no more of it is kept.
    **{f"{size} KiB of headers": "GOAWAY ENHANCE_YOUR_CALM" for size in (70, 130, 300)},
}
_INTENDED = {**_RULES_OF_HTTP2, **_FRAMES_OF_HTTP2, **_NOT_GRPC, **_READINGS}
# The status is the same, and the transports tell it in their own words.
_OWN_WORDS = {
    "a length of 4 GiB",
    "a length of 4 GiB, begun",
    "compressed without encoding",
    "gzip and more",
    "gzip cut short",
    "gzip of garbage",
    "gzip of too large a message",
    "gzip of two members",
    "gzip with a wrong checksum",
    "gzip without its checksum",
    "identity, used",
    "too large a message",
    *(f"grpc-timeout {timeout!r}" for timeout in ("", "+1S", "-1S", "1", "1.5S", "1X", "1s", "S")),
    *(f"{size} KiB of headers" for size in (17, 20, 40, 60)),
}


@dataclass
class Both:
    """The same service over both transports, on one database."""

    lane: str
    grpcio: str
    known: Known


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(postgres: DevPostgres) -> AsyncIterator[Both]:
    async with (
        new_database(postgres, "oracle") as url,
        serving(url, Clock(), transport="lane") as lane,
        serving(url, Clock(), transport="grpcio") as grpcio,
    ):
        made = await lane.admin.CreateKey(owner_id="acme", display_name="Orders")
        known = Known(lane.admin_key, made.key_string)
        yield Both(lane.address, grpcio.address, known)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", sorted(CASES.keys() - _INTENDED.keys()))
async def test_the_transports_agree(both: Both, name: str) -> None:
    """Clients cannot tell them apart."""
    of_lane = await outcome(both.lane, both.known, CASES[name])
    of_grpcio = await outcome(both.grpcio, both.known, CASES[name])
    if name in _OWN_WORDS:
        assert of_lane.message
        of_grpcio = of_grpcio._replace(message=of_lane.message)
    assert of_lane == of_grpcio


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", sorted(_INTENDED))
async def test_the_lane_differs_on_purpose(both: Both, name: str) -> None:
    """The reasons are beside the lists."""
    end = _INTENDED[name]
    found = await outcome(both.lane, both.known, CASES[name])
    assert (found.end, found.goes_on) == (end, not end.startswith("GOAWAY"))
    assert bool(found.answer) is (end == "OK")
    assert bool(found.message) is (end.isupper() and end != "OK" and " " not in end)


@pytest.mark.asyncio(loop_scope="module")
async def test_headers_that_clients_do_not_use(both: Both) -> None:
    """The lane names its encodings only with an error; answers of both have the same other headers."""
    names = {}
    for transport in ("lane", "grpcio"):
        exchange = await Exchange.open(getattr(both, transport))
        fields, body = headers(both.known.fields()), data(both.known.message, end=True)
        exchange.write(fields + body)
        names[transport] = (await exchange.ended()).names
        await exchange.close()
    # Without a message, grpcio sends an empty one.
    assert names["grpcio"] - names["lane"] == {"grpc-accept-encoding", "grpc-message"}
    assert names["lane"] <= _COMPARED
