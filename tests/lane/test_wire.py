"""Frames at the seams: what ngh2 writes, what the lane adds, and the end of a connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from authsvc.rpc.lane import server as lane
from authsvc.rpc.lane.connection import Connection
from authsvc.rpc.limits import MAX_STREAMS
from authsvc.rpc.served import Served
from tests.http2 import END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame, message
from tests.lane.cases import VERIFY
from tests.lane.exchange import PREFACE, Exchange, Field, data, headers
from tests.lane.interop_service import SERVICE, TestService, serving_tests

_FIELDS: list[Field] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", VERIFY),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
_MALFORMED: list[Field] = [*_FIELDS, ("authorization", "Bearer ")]


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, written: bytes) -> None:
        self.data += written

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None

    def frames(self) -> Iterator[tuple[int, int]]:
        """Yield the kind and the stream of each frame."""
        rest = self.data
        while rest:
            length, kind, stream = int.from_bytes(rest[:3]), rest[3], int.from_bytes(rest[5:9])
            assert len(rest) >= 9 + length, "a frame is cut"
            yield kind, stream
            rest = rest[9 + length :]


@pytest.fixture
async def test_service() -> AsyncIterator[tuple[str, TestService]]:
    async with serving_tests("lane") as served:
        yield served


@pytest.fixture
async def exchange(test_service: tuple[str, TestService]) -> AsyncIterator[Exchange]:
    exchange = await Exchange.open(test_service[0])
    yield exchange
    await exchange.close()


def call(method: str) -> list[Field]:
    """Return the headers of a call of the test service."""
    return [(name, f"{SERVICE}/{method}" if name == ":path" else value) for name, value in _FIELDS]


def arrives(connection: Connection, data: bytes) -> None:
    """Have a transport put some bytes into the buffer of a connection."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


@pytest.mark.parametrize("answers", [0, MAX_STREAMS - 1])
async def test_a_status_is_written_between_frames(answers: int) -> None:
    """It comes before the reset of a malformed call, unless that would be inside another frame."""
    service, written = TestService(), Written()
    connection = Connection(lane.Server(cast("Served", service)), "ipv4:127.0.0.1:1")
    service.bounds.connections.known(connection.peer)  # whatever it sends is looked at when it arrives
    connection.connection_made(cast("asyncio.Transport", written))
    numbers = range(1, 2 * answers, 2)
    arrives(connection, PREFACE + frame(SETTINGS, 0, 0))
    for number in numbers:
        arrives(connection, headers(call("StreamingInputCall"), stream=number))
    for number in numbers:
        connection.wire.headers(number, [(b":status", b"200"), (b"x", str(number).encode() * 300)], ends=True)
    malformed = 2 * answers + 1
    arrives(connection, headers(_MALFORMED, stream=malformed, flags=END_STREAM))
    connection.connection_lost(None)
    found = list(written.frames())
    assert (len(written.data) > 2 * 65_536) is (answers > 0)
    said = [kind for kind, stream in found if stream == malformed]
    assert said == ([RST_STREAM] if answers else [HEADERS, RST_STREAM])
    assert {stream for _, stream in found} == {0, *numbers, malformed}


async def test_the_last_answer_of_a_connection_is_sent(
    test_service: tuple[str, TestService], exchange: Exchange
) -> None:
    """A connection that its client has to leave ends after its last answer, not before."""
    _, service = test_service
    exchange.write(headers(call("StreamingInputCall")) + frame(PING, 0, 0, bytes(8)))
    await exchange.until(lambda: exchange.acknowledged == 1)
    stopping = asyncio.ensure_future(service.stop(10))
    await exchange.until(lambda: exchange.goaways == 2)
    exchange.write(data(message(b""), end=True))
    assert (await exchange.ended()).value("grpc-status") == "0"
    await exchange.closed()
    await stopping


async def test_a_client_that_pings_for_nothing_is_disconnected(exchange: Exchange) -> None:
    """The fourth ping in a row is one too many; the code is the one that gRPC's clients know."""
    exchange.write(frame(PING, 0, 0, b"12345678") * 4)
    await exchange.closed()
    assert exchange.goaway == (11, b"too_many_pings")


async def test_settings_do_not_excuse_pings(exchange: Exchange) -> None:
    """What only acknowledges the client's own frames is nothing that it was sent."""
    for _ in range(4):
        exchange.write(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678"))
    await exchange.closed()
    assert exchange.goaway == (11, b"too_many_pings")


async def test_a_client_may_ping_while_it_is_sent_something(exchange: Exchange) -> None:
    """grpc-go measures by pings how fast it can receive, on each connection and at each large message."""
    exchange.write(headers(call("FullDuplexCall")))
    ask = message(b"\x12\x02\x08\x01")  # an answer with a payload of one byte
    for _ in range(20):
        exchange.write(data(ask) + frame(PING, 0, 0, b"12345678"))
        await exchange.more()
    exchange.write(data(b"", end=True))
    assert (await exchange.ended()).value("grpc-status") == "0"
    assert exchange.goaway is None


@pytest.mark.parametrize("flood", ["headers", "names", "continuations"])
async def test_a_flood_is_ended_by_goaway(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, flood: str
) -> None:
    """The client learns why, and nothing is logged as if it were a bug."""
    frames = {
        "headers": headers([*_FIELDS, *[(f"x-{number}", "x" * 1000) for number in range(70)]]),
        "names": headers([*_FIELDS, *[(f"x-{number}", "") for number in range(1100)]]),
        "continuations": headers(_FIELDS, size=5),
    }
    exchange.write(frames[flood])
    await exchange.closed()
    assert exchange.goaway is not None
    code, reason = exchange.goaway
    assert (code, bool(reason)) == (11, True)
    assert not caplog.records


async def test_a_client_without_http2_is_told(
    test_service: tuple[str, TestService], caplog: pytest.LogCaptureFixture
) -> None:
    """A program that speaks HTTP/1.1 gets GOAWAY, and nothing is logged as if it were a bug."""
    host, _, port = test_service[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    said = await reader.read()
    writer.close()
    assert b"\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x01" in said
    assert not caplog.records


async def test_frames_after_an_error_are_dropped(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that is answered when its connection has just ended by an error raises nothing."""
    exchange.write(headers(_FIELDS) + frame(0, 0, 0, b"x"))
    await exchange.closed()
    assert exchange.goaway == (1, b"DATA: stream_id == 0")
    assert not caplog.records
