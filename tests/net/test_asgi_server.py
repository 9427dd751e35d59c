"""The server of HTTP/1.1 with hostile clients that send no bodies."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from authsvc.net.asgi_server import MAX_HELD_BYTES, AsgiServer
from authsvc.net.http_message import Call, Reply, asgi
from authsvc.net.listen_address import ListenAddress
from tests.gateway.client import get_http1
from tests.net.asgi import FIRST, HOST, LAST, QUESTION, answer, connect, exchange, opened, settled, too_late


@pytest.fixture
async def server() -> AsyncIterator[tuple[AsgiServer, int]]:
    running = AsgiServer(asgi(answer))
    port = await running.start(ListenAddress("127.0.0.1", 0))
    yield running, port
    await running.stop(0)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc", b"413"),
        (b"POST /a HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"413"),
        # The proxy forwards the length of the client's body, without the body.
        (b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\n", b"413"),
        (b"HEAD /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\n", b"413"),
        (b"GET /a HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + HOST + b"\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x-y : z\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n", b"400"),
        (
            b"GET /a HTTP/1.1\r\n"
            + HOST
            + b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"content-length: 0\r\ncontent-length: 1\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"content-length: 0\r\ncontent-length: 0\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"413"),
        (b"GET /a HTTP/1.0\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"413"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x: a\r\n b\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\nhost: x\n\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x: a\rb\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x: \x01\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"Host\xff: y\r\n\r\n", b"400"),
        (b"\r\n" + QUESTION, b"400"),
        (b"\r\n\r\n" + QUESTION, b"400"),
        (b"GET  /a HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"GET /a\r\n\r\n", b"400"),
        (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"GET http://x/a HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"CONNECT /a HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"get /a HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"FETCH /a HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"GET /a RTSP/1.0\r\n" + HOST + b"\r\n", b"400"),
        (b"GET /a HTTP/1.2\r\n" + HOST + b"\r\n", b"505"),
        (b"GET /a HTTP/0.9\r\n" + HOST + b"\r\n", b"505"),
        (b"GET /a HTTP/3.0\r\n" + HOST + b"\r\n", b"505"),
        (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100 + b"\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 70_000, b"431"),
    ],
)
async def test_what_is_no_proper_question(server: tuple[AsgiServer, int], data: bytes, status: bytes) -> None:
    """It is refused and the connection closed, so that the bytes after it are not read as a request."""
    waits = status == b"431" or data.endswith(b"content-length: 3\r\n\r\n")
    answer = await exchange(server[1], data + (b"" if waits else LAST))
    assert answer[9:12] == status
    if status != b"200":
        assert b"/last" not in answer


async def test_questions_one_after_the_other(server: tuple[AsgiServer, int]) -> None:
    """On one connection, even if the next one arrives before the answer."""
    first = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await exchange(server[1], b"".join(first % number for number in range(50)) + LAST)
    targets = [line for line in answer.split(b"\r\n") if line.startswith(b"x-target")]
    assert targets == [b"x-target: /%d" % number for number in range(50)] + [b"x-target: /last"]


async def test_a_fault_is_500(server: tuple[AsgiServer, int]) -> None:
    """And the server continues."""
    assert (await get_http1(server[1], "/fault")).status == 500
    assert (await get_http1(server[1], "/unsendable")).status == 0
    assert (await get_http1(server[1], "/")).status == 200


async def test_a_stop_lets_answers_end() -> None:
    """Idle connections are closed soon, others after their answer; new ones are refused."""
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> Reply:
        if call.target == "/slow":
            asked.set()
            await go_on.wait()
        return Reply(200)

    server = AsgiServer(asgi(answer))
    port = await server.start(ListenAddress("127.0.0.1", 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    slow = asyncio.create_task(get_http1(port, "/slow"))
    await asked.wait()
    stopping = asyncio.create_task(server.stop(30))
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await get_http1(port, "/late")
    assert not stopping.done()
    go_on.set()
    assert (await slow).headers["connection"] == "close"
    await stopping


async def test_a_stop_does_not_wait_for_ever() -> None:
    """Requests that take longer than the grace period are aborted."""
    asked = asyncio.Event()

    async def answer(_: Call) -> Reply:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = AsgiServer(asgi(answer))
    port = await server.start(ListenAddress("127.0.0.1", 0))
    asking = asyncio.create_task(get_http1(port, "/"))
    await asked.wait()
    await server.stop(0)
    assert (await asking).status == 0


async def test_who_says_nothing_is_not_waited_for(
    server: tuple[AsgiServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete head and an unused connection are closed after a timeout."""
    with too_late(monkeypatch, "HEAD"):
        assert await exchange(server[1], b"GET / HTTP/1.1\r\nhost:") == b""
        assert await exchange(server[1], b"") == b""
    with too_late(monkeypatch, "IDLE"):
        assert b"x-target: /a" in await exchange(server[1], b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")


async def test_a_body_is_told_to_the_operator(
    server: tuple[AsgiServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The answer and the log say what the proxy must not send."""
    answer = await exchange(server[1], b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
    assert b"not to send Content-Length" in answer.partition(b"\r\n\r\n")[2]
    assert "not to send Content-Length" in caplog.text


async def test_no_more_connections_than_there_is_room_for(server: tuple[AsgiServer, int]) -> None:
    """A new one replaces the one that has waited longest, first of those that were never answered."""
    http, port = server
    http.max_connections = 3
    async with asyncio.timeout(30):
        proxy = await opened(port, FIRST)
        silent = [await opened(port), await opened(port)]
        another = await opened(port, FIRST)
        assert await silent[0][0].read() == b""
        late = await opened(port, FIRST)
        assert await silent[1][0].read() == b""
        assert http.closed == {"room": 2, "full": 0}
        # All three were answered, this one last.
        proxy[1].write(FIRST)
        await proxy[0].readuntil(b"body")
        assert (await exchange(port, LAST)).startswith(b"HTTP/1.1 200")
        assert await another[0].read() == b""
        for reader, writer in (proxy, late):
            writer.write(LAST)
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
    for _, writer in (proxy, *silent, another, late):
        writer.close()


async def test_no_request_is_interrupted_to_make_room(server: tuple[AsgiServer, int]) -> None:
    """When every connection has a request in progress, a further one is closed immediately, and counted."""
    http, port = server
    http.max_connections = 1
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: Call) -> Reply:
        asked.set()
        await go_on.wait()
        return Reply(200, body="body")

    http.application = asgi(answer)
    async with asyncio.timeout(30):
        busy = asyncio.create_task(exchange(port, LAST))
        await asked.wait()
        assert await exchange(port, LAST) == b""
        assert http.closed == {"room": 0, "full": 1}
        go_on.set()
        assert (await busy).startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_not_answered_on_and_on(server: tuple[AsgiServer, int]) -> None:
    """The next request waits until the answers are read, and the server reads no further meanwhile."""
    connection, client = connect(server[0])
    client.stalls = True
    connection.data_received(QUESTION * 100)
    await settled()
    assert (client.answers, client.reads) == (1, False)
    assert client.limits == (16 * 1024, None)
    client.stalls = False
    connection.resume_writing()
    await settled()
    assert (client.answers, client.reads, client.ended) == (100, True, "")
    connection.connection_lost(None)


async def test_who_does_not_read_is_not_waited_for(
    server: tuple[AsgiServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection with an unread answer is aborted after a timeout, and the rest is dropped."""
    for question in (QUESTION, LAST):
        connection, client = connect(server[0])
        client.stalls = True
        with too_late(monkeypatch, "READ"):
            connection.data_received(question)
            await settled()
        connection._deadline.look()
        assert client.ended == "aborted"
        connection.connection_lost(None)


async def test_what_is_sent_ahead_is_bounded(
    server: tuple[AsgiServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Only a head's size is buffered behind a request; beyond it, the connection closes after the answer."""
    connection, client = connect(server[0])
    connection.data_received(QUESTION * (65536 // len(QUESTION)))
    assert client.ended == ""
    assert server[0].held_bytes == len(QUESTION) * (65536 // len(QUESTION) - 1)
    connection.data_received(QUESTION)
    connection.data_received(QUESTION)
    connection.data_received(QUESTION)
    assert server[0].held_bytes == len(connection._unread) == 0
    assert client.ended == ""
    await settled()
    assert (client.answers, client.ended) == (1, "closed")
    assert "could not be sent" not in caplog.text
    connection.connection_lost(None)


async def test_what_all_send_ahead_is_bounded(server: tuple[AsgiServer, int]) -> None:
    """Above the total bound, only connections that hold more than an equal share are refused."""
    half = b"GET / HTTP/1.1\r\nx: "
    large = half + b"y" * (60_000 - len(half))
    floods = [connect(server[0]) for _ in range(MAX_HELD_BYTES // 60_000 + 10)]
    for connection, _ in floods:
        connection.data_received(large)
        assert server[0].held_bytes <= MAX_HELD_BYTES
    assert [client.ended for _, client in floods[-10:]] == ["closed"] * 10
    assert {client.ended for _, client in floods[:-10]} == {""}
    usual, client = connect(server[0])
    usual.data_received(half + b"y" * 4000 + b"\r\nhost: x\r\n\r\n")
    await settled()
    assert (client.answers, client.ended) == (1, "")
    for connection, _ in [*floods, (usual, client)]:
        connection.connection_lost(None)
    assert server[0].held_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x:\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x:\r\n" * 300,
    ],
    ids=["whole", "begun"],
)
async def test_very_many_lines_are_refused(server: tuple[AsgiServer, int], data: bytes) -> None:
    """Each takes time to parse, so they are counted first."""
    assert (await exchange(server[1], data))[9:12] == b"431"


async def test_a_head_may_come_in_pieces(server: tuple[AsgiServer, int]) -> None:
    """Wherever it is split, also within the line ends after it."""
    connection, client = connect(server[0])
    for place in range(1, len(QUESTION)):
        connection.data_received(QUESTION[:place])
        connection.data_received(QUESTION[place:])
        await settled()
        assert client.answers == place
    connection.connection_lost(None)
