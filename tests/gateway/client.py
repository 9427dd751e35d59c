"""Sends requests to a proxy byte for byte as a test gives them, over HTTP/1.1 or HTTP/2."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Answer:
    """The answer; status 0 means that the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


async def get_http1(
    port: int,
    target: str,
    headers: Headers = (),
    method: str = "GET",
    body: bytes = b"",
    *,
    address: str = "127.0.0.1",
) -> Answer:
    """Send a request over HTTP/1.1, names and values unchanged; `headers` must contain the body's framing.

    `address` is the client's address. Bytes in the target that are not UTF-8 are written as by `os.fsdecode`.
    """
    lines = [
        f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape"),
        b"host: app.test",
        b"connection: close",
    ]
    lines += [name.encode("latin-1") + b": " + _bytes(value) for name, value in headers]
    host = "::1" if ":" in address else "127.0.0.1"
    reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "app.test")]))
    connection.send(h11.EndOfMessage())
    status, got, content = 0, {}, b""
    try:
        writer.write(b"\r\n".join([*lines, b"", body]))
        await writer.drain()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                status, got = event.status_code, _dict(event.headers)
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    except (ConnectionError, h11.RemoteProtocolError):
        pass
    finally:
        writer.close()
    return Answer(status, got, content)


def request_head(target: str, headers: Headers = (), method: str = "GET") -> bytes:
    """Return a request without a body, with names and values unchanged, that keeps the connection open."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: app.test"]
    lines += [name.encode("latin-1") + b": " + _bytes(value) for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read the next answer; 101 has no body."""
    try:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, {})
    return Answer(int(first.split(" ")[1]), headers, body)


async def get_then(
    port: int, target: str, headers: Headers, following: bytes, method: str = "GET"
) -> tuple[Answer, bytes]:
    """Send a request, and when it was answered, send `following` on the same connection.

    Return the answer and everything after it, which is empty if the connection was closed.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer, rest = Answer(0, {}), b""
    try:
        async with asyncio.timeout(30):
            writer.write(request_head(target, headers, method))
            answer = await read_answer(reader)
            writer.write(following)
            if answer.headers.get("connection") != "close":
                # A receiver of `following` answers before it sees the end of the stream.
                rest = await reader.read(1)
            writer.write_eof()
            rest += await reader.read()
    except OSError:
        pass
    finally:
        writer.close()
    return answer, rest


async def get_http2(port: int, target: str, headers: Headers = (), method: str = "GET") -> Answer:
    """Send a request over HTTP/2 without TLS, by prior knowledge."""
    path = target.encode("utf-8", "surrogateescape")
    pseudo = [(":method", method), (":scheme", "http"), (":authority", "app.test")]
    return await ask_http2(port, [*pseudo, (":path", path), *headers])


async def ask_http2(port: int, headers: Headers, *, end: bool = True, data: bytes = b"") -> Answer:
    """Send exactly these headers, with pseudo-headers, and data over HTTP/2; `end` ends the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # Invalid requests must not be corrected or refused on the client's side.
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    lines = [(name.encode("latin-1"), _bytes(value)) for name, value in headers]
    # Large headers take this library seconds, and the service under test runs in the same event loop.
    await asyncio.to_thread(connection.send_headers, 1, lines, end_stream=end and not data)
    if data:
        connection.send_data(1, data, end_stream=end)
    status, got, body = 0, dict[str, str](), b""
    try:
        ended = False
        while not ended:
            writer.write(connection.data_to_send())
            await writer.drain()
            async with asyncio.timeout(30):
                data = await reader.read(65536)
            if not data:
                break
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    got = _dict(event.headers or ())
                    status = int(got.pop(":status"))
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                elif isinstance(
                    event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated
                ):
                    ended = True
    except (ConnectionError, h2.exceptions.ProtocolError):
        pass
    finally:
        writer.close()
    return Answer(status, got, body)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def _dict(headers: object) -> dict[str, str]:
    return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in headers}  # type: ignore[attr-defined]
