"""Bounds on the work and memory that an unauthenticated client or a tenant can cause on the gRPC port."""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._base import BaseReflectionServicer

from authsvc.client import channels
from authsvc.entrance.strangers import Strangers
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.rate import Rate
from authsvc.rpc import server
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.connections import MAX_BROKEN, Connections
from authsvc.rpc.public import Streams
from authsvc.rpc.reflection import SERVICES, CommentedPool, Reflection
from authsvc.v1 import key_service_pb2 as pb
from authsvc.verify.clock import boottime
from tests import http2
from tests.conftest import Clock, Service, eventually, serving
from tests.rpc.refusal import refused
from tests.rpc.test_limits import metric
from tests.rpc.test_revoke import make

VERIFY = "/authsvc.v1.KeyService/VerifyKey"
LIST = "/authsvc.v1.KeyService/ListKeys"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
OLD_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
MIB = 1024 * 1024
# gRPC status codes on the wire.
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = (
    "0",
    "3",
    "8",
    "12",
    "14",
    "16",
)


@asynccontextmanager
async def connected(service: Service, *, window: int = 65_535) -> AsyncIterator[http2.Connection]:
    connection = await http2.Connection.open(service.address, window=window)
    try:
        async with asyncio.timeout(30):
            yield connection
    finally:
        await connection.close()


def headers(path: str, key_string: str = "", **more: str) -> bytes:
    bearer = f"Bearer {key_string}" if key_string else ""
    return http2.block(http2.call_headers(path, bearer, more.items()))


def list_request(owner_id: str = "acme") -> bytes:
    return http2.message(pb.ListKeysRequest(owner_id=owner_id).SerializeToString())


def closed(service: Service, reason: str) -> float:
    value = service.app.metrics.registry.get_sample_value(
        "authsvc_connections_closed_total", {"reason": reason}
    )
    assert value is not None
    return value


async def test_a_strangers_message_is_not_read(service: Service) -> None:
    """A call without a credential is refused by its headers, however large its message would be."""
    async with connected(service) as connection:
        body = struct.pack(">BI", 0, MIB) + bytes(MIB - 1)
        for path in (VERIFY, LIST, "/no.Service/Call"):
            stream = connection.call(headers(path), end=False)
            assert not await connection.send(stream, body)
            assert await connection.status(stream) == (UNIMPLEMENTED if "no." in path else UNAUTHENTICATED)


async def test_a_message_that_nobody_asks_for_is_a_window(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a call waits for others of its account, its client can send one flow-control window."""
    monkeypatch.setattr("authsvc.app.entrance._MAX_ARRIVING", 1)
    async with serving(database_url, clock) as service, connected(service) as connection:
        acme = (await make(service, scopes=["keys:verify"])).key_string

        async def served() -> None:
            """Return when the server has processed everything sent so far."""
            check = connection.call(headers("/grpc.health.v1.Health/Check"), http2.message(b""))
            assert await connection.status(check) == OK

        await service.as_caller(acme).VerifyKey(key_string="x")
        first = connection.call(headers(VERIFY, acme), end=False)
        await served()
        waits = connection.call(headers(VERIFY, acme), end=False)
        body = struct.pack(">BI", 0, MIB // 2) + bytes(MIB // 2)
        sending = asyncio.create_task(connection.send(waits, body))
        for _ in range(3):
            await served()
        assert connection.sent[waits] == 16 * 1024
        # When the first call ends, the server reads the message of the other one, completely.
        await connection.send(first, http2.message(b""))
        connection.write(http2.frame(http2.DATA, http2.END_STREAM, first))
        async with asyncio.timeout(30):
            assert await sending
        assert connection.sent[waits] == len(body)


async def test_health_reads_little(service: Service) -> None:
    """Health and reflection need no credential, so their messages must be small."""
    async with connected(service) as connection:
        for path in ("/grpc.health.v1.Health/Check", WATCH, REFLECTION, OLD_REFLECTION):
            stream = connection.call(headers(path), http2.message(bytes(5000)))
            assert await connection.status(stream) == INVALID_ARGUMENT


async def test_a_call_without_a_message_is_answered(service: Service) -> None:
    """It ends with an error by itself, for every caller and every RPC."""
    async with connected(service) as connection:
        for path in (VERIFY, LIST, "/grpc.health.v1.Health/Check"):
            stream = connection.call(headers(path, service.admin_key), end=True)
            assert await connection.status(stream) == INVALID_ARGUMENT


async def test_a_message_that_does_not_come(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits a limited time for its message, and a reflection stream for its next one."""
    monkeypatch.setattr("authsvc.rpc.arrivals.MAX_ARRIVAL_SECONDS", 0.0)
    async with connected(service) as connection:
        begun = connection.call(headers(VERIFY, service.admin_key), http2.message(b"x" * 50)[:20], end=False)
        silent = connection.call(headers(LIST, service.admin_key), end=False)
        idle = [connection.call(headers(path), end=False) for path in (REFLECTION, OLD_REFLECTION)]
        assert await connection.status(begun) == UNAVAILABLE
        assert await connection.status(silent) == UNAVAILABLE
        assert [await connection.status(stream) for stream in idle] == [OK, OK]


async def test_how_late_a_message_is() -> None:
    """After ten seconds of waiting by the stopwatch, the call fails with an error that can be retried."""
    now = 100.0
    arrivals = Arrivals(1, 1, lambda: now)
    first, second = Slow(), Slow()
    early = asyncio.create_task(arrivals.message(first, "acme"))
    await first.reading.wait()
    now += 4.0
    late = asyncio.create_task(arrivals.message(second, "globex"))
    await second.reading.wait()
    now += 5.9
    arrivals.expire()
    await asyncio.sleep(0)
    assert not early.done()
    now += 0.2
    arrivals.expire()
    with pytest.raises(Unavailable) as caught:
        await early
    assert caught.value.reason == "MESSAGE_LATE"
    second.arrived.set()
    assert await late == b"message"


class Slow:
    """A call whose message arrives when the test releases it."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.arrived = asyncio.Event()

    async def read(self) -> bytes:
        self.reading.set()
        await self.arrived.wait()
        return b"message"


async def test_messages_on_their_way_are_bounded() -> None:
    """Messages being received and waiting calls are limited per account; accounts are independent."""
    arrivals = Arrivals(2, 1, boottime)
    calls = [Slow() for _ in range(4)]
    tasks = [asyncio.create_task(arrivals.message(call, "acme")) for call in calls[:3]]
    await asyncio.gather(calls[0].reading.wait(), calls[1].reading.wait())
    assert not calls[2].reading.is_set()
    with pytest.raises(Overloaded):
        await arrivals.message(calls[3], "acme")
    assert arrivals.refused == 1
    other = Slow()
    other.arrived.set()
    assert await arrivals.message(other, "globex") == b"message"
    calls[0].arrived.set()
    await calls[2].reading.wait()
    # A call that is cancelled while it waits frees its place.
    waits = asyncio.create_task(arrivals.message(calls[3], "acme"))
    await asyncio.sleep(0)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    for call in calls:
        call.arrived.set()
    assert await asyncio.gather(*tasks) == [b"message"] * 3
    assert await arrivals.message(calls[3], "acme") == b"message"


async def test_who_waits_for_messages_is_counted(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metric counts calls that were refused because too many wait for their messages."""
    monkeypatch.setattr("authsvc.app.entrance._MAX_ARRIVING", 1)
    async with serving(database_url, clock, in_flight_limit=8) as service:
        acme = (await make(service, scopes=["keys:verify"])).key_string
        async with connected(service) as connection:
            for _ in range(4):
                connection.call(headers(VERIFY, acme), end=False)
            while not connection.statuses:
                await connection.changed()
            assert set(connection.statuses.values()) == {RESOURCE_EXHAUSTED}
            assert metric(service, "message") == 1


async def test_a_call_is_in_flight_until_its_answer_is_sent(database_url: str, clock: Clock) -> None:
    """A client that reads nothing uses capacity like any other; it is freed when the connection closes."""
    async with serving(database_url, clock, in_flight_limit=4) as service:
        await service.admin.ListKeys(owner_id="acme")
        async with connected(service, window=0) as connection:
            calls = [connection.call(headers(LIST, service.admin_key), list_request()) for _ in range(6)]
            while len(connection.statuses) < 4:
                await connection.changed()
            assert {connection.statuses[call] for call in calls if call in connection.statuses} == {
                RESOURCE_EXHAUSTED
            }
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "IN_FLIGHT_LIMIT"):
                await service.admin.ListKeys(owner_id="acme")
            await service.admin.VerifyKey(key_string="x")
        await eventually(partial(admitted, service), bool)


async def admitted(service: Service) -> bool:
    """Return whether there is capacity for a call."""
    try:
        await service.admin.ListKeys(owner_id="acme")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return True


async def test_bytes_of_unread_answers_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per owner, over all its connections. Other owners are not affected; a read answer frees its bytes."""
    monkeypatch.setattr("authsvc.rpc.answers.MAX_BYTES", 100_000)
    acme, globex = [
        (await make(service, owner, scopes=["keys:read", "keys:verify"])).key_string
        for owner in ("acme", "globex")
    ]
    request = http2.message(pb.VerifyKeyRequest(key_string=acme).SerializeToString())
    async with connected(service, window=0) as connection:
        for _ in range(10):
            connection.call(headers(VERIFY, acme), request)
        # Three answers take 32 KiB each; the next one exceeds the limit.
        while len(connection.statuses) < 6:
            await connection.changed()
        assert set(connection.statuses.values()) == {RESOURCE_EXHAUSTED}
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWERS_UNREAD"):
            await service.as_caller(acme).ListKeys(owner_id="acme")
        await service.as_caller(globex).VerifyKey(key_string=acme)
        assert metric(service, "unread") == 7


async def test_every_answer_counts_for_who_calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors count too. The account of platform callers is the connection; unknown callers have none."""
    accounts: list[str] = []
    begin = Answers.begin

    def note(answers: Answers, call: Any, peer: str, account: str, size: int) -> None:
        accounts.append({peer: "connection"}.get(account, account))
        begin(answers, call, peer, account, size)

    async def fault(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    async def counted(*calls: str) -> list[str]:
        accounts.clear()
        async with connected(service) as connection:
            for key_string in calls:
                await connection.status(connection.call(headers(LIST, key_string), list_request("no such")))
                await connection.status(connection.call(headers(LIST, key_string), list_request()))
        return list(accounts)

    platform, acme = [await make(service, owner, scopes=["keys:read"]) for owner in ("authsvc", "acme")]
    monkeypatch.setattr(Answers, "begin", note)
    assert await counted(platform.key_string, acme.key_string) == ["connection"] * 2 + ["acme"] * 2
    for made in (platform, acme):
        await service.admin.RevokeKey(key_id=made.key.key_id)
    spent = await counted(platform.key_string, acme.key_string, "")
    assert spent == ["connection"] * 2 + ["acme"] * 2 + [""] * 2
    monkeypatch.setattr(service.app.keys, "list", fault)
    assert await counted(service.admin_key) == ["connection"] * 2


def test_an_account_has_room_for_one_answer() -> None:
    """However large it is. A sent answer frees its room."""
    answers = Answers(boottime)
    answers.check("acme", 2**40)
    answers.begin("call", "peer", "acme", 2**40)
    with pytest.raises(Overloaded):
        answers.check("acme")
    answers.check("globex", 2**40)
    answers.end("call")
    answers.end("call")
    assert answers.unsent == 0
    answers.check("acme", 2**40)


def test_when_an_answer_is_late() -> None:
    """When it is unsent for ten seconds by the stopwatch."""
    now = 100.0
    answers = Answers(lambda: now)
    answers.begin("one", "peer 1", "acme", 1)
    now += 4.0
    answers.begin("two", "peer 2", "acme", 1)
    answers.begin("three", "peer 3", "acme", 1)
    now += 5.9
    assert answers.stalled() == set()
    now += 0.2
    assert answers.stalled() == {"peer 1"}
    answers.end("two")
    now += 4.0
    assert answers.stalled() == {"peer 1", "peer 3"}


async def test_who_takes_no_answer_is_hung_up_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a timeout. Everything that was kept for the client is freed."""
    monkeypatch.setattr("authsvc.rpc.answers.MAX_UNREAD_SECONDS", 0.0)
    async with connected(service, window=0) as connection:
        connection.call(headers(LIST, service.admin_key), list_request())
        await connection.closed.wait()
    async with connected(service, window=0) as connection:
        connection.call(headers(WATCH), http2.message(b""))
        await connection.closed.wait()
    assert closed(service, "unread") >= 2
    await service.admin.VerifyKey(key_string="x")


async def test_streams_of_a_connection_are_bounded(service: Service) -> None:
    async with connected(service) as connection:
        assert connection.max_streams == 512


async def test_headers_are_bounded(service: Service) -> None:
    """Larger headers are refused before our code sees them."""
    async with connected(service) as connection:
        many = {f"x-{number}": "v" for number in range(500)}
        stream = connection.call(headers(VERIFY, service.admin_key, **many), http2.message(b""))
        assert await connection.status(stream) == RESOURCE_EXHAUSTED


async def test_strangers_leave_room_for_others(database_url: str, clock: Clock) -> None:
    """The number of connections is limited; when few are left, those without a known caller are closed."""
    async with serving(database_url, clock, connection_limit=12) as service:
        await service.admin.VerifyKey(key_string="x")
        held = [asyncio.create_task(http2.Connection.open(service.address)) for _ in range(40)]
        async with asyncio.timeout(30):
            # Each is refused, or accepted and later closed to make room, except as many as there is room for.
            strangers = await asyncio.gather(*held)
            closing = [asyncio.create_task(one.closed.wait()) for one in strangers]
            for _, ended in zip(range(31), asyncio.as_completed(closing), strict=False):
                await ended
        await service.admin.VerifyKey(key_string="x")
        async with grpc.aio.insecure_channel(
            service.address, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            await channel.channel_ready()
        for one, task in zip(strangers, closing, strict=True):
            task.cancel()
            await one.close()


def test_which_connections_make_room() -> None:
    """Those without a known caller, except a new one, and only as many as necessary."""
    connections = Connections(8, boottime)
    ends = [("192.0.2.1", port) for port in range(8)]
    connections.known("ipv4:192.0.2.1:0")
    assert connections.superfluous(ends[:7]) == set()
    assert connections.superfluous(ends) == {ends[1], ends[2]}
    assert connections.superfluous(ends[:6]) == set()


def test_that_all_are_taken_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute. GRPC refuses further connections, and does not say so."""
    now = 0.0
    connections = Connections(8, lambda: now)
    ends = [("192.0.2.1", port) for port in range(8)]
    connections.known("ipv4:192.0.2.1:0")
    connections.count(ends[:7])
    assert (connections.open, connections.open_known, caplog.text) == (7, 1, "")
    for seconds in (1.0, 1.0, 58.0, 2.0):
        now += seconds
        connections.count(ends)
    assert caplog.text.count("all 8 gRPC connections are taken (AUTHSVC_CONNECTION_LIMIT)") == 2


async def test_who_resets_calls_again_and_again(database_url: str, clock: Clock) -> None:
    """The connection is closed, and sooner for a repeated offender; one of a known caller is not closed."""
    async with serving(database_url, clock, stranger_limit=Rate(0.001, 1)) as service:
        for _ in range(2):
            async with connected(service) as connection:
                while not connection.closed.is_set():
                    for _ in range(20):
                        stream = connection.call(headers(VERIFY), end=False)
                        connection.write(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8)))
                    await asyncio.sleep(0)
        assert closed(service, "resets") == 2


def test_how_many_resets_are_too_many() -> None:
    now = 0.0
    connections = Connections(8, lambda: now)

    def broken(peer: str, times: int) -> set[str]:
        for _ in range(times):
            connections.broken(peer)
        return connections.take_condemned()

    assert broken("ipv4:192.0.2.1:1", MAX_BROKEN) == set()
    assert broken("ipv4:192.0.2.1:1", 1) == {"ipv4:192.0.2.1:1"}
    # An address that did so has a lower limit for a while; other addresses are not affected.
    assert broken("ipv4:192.0.2.2:1", MAX_BROKEN) == set()
    assert broken("ipv4:192.0.2.1:2", 11) == {"ipv4:192.0.2.1:2"}
    now = 61.0
    assert broken("ipv4:192.0.2.1:3", MAX_BROKEN) == set()
    connections.known("ipv4:192.0.2.9:1")
    assert broken("ipv4:192.0.2.9:1", 1000) == set()


async def test_pings_in_quick_succession_end_a_connection(service: Service) -> None:
    async with connected(service) as connection:
        for _ in range(10):
            connection.write(http2.frame(http2.PING, 0, 0, bytes(8)))
        await connection.closed.wait()


def test_pings_as_far_apart_as_documented_are_never_early() -> None:
    """A client that pings every ten seconds has a margin for delays in the network."""
    assert dict(server._OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"] == 5_000
    assert ("grpc.keepalive_time_ms", 20_000) in channels._OPTIONS


async def test_strangers_wait(database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a rate of calls per address, for any RPC; known callers do not wait."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 0.0)
    async with serving(database_url, clock, stranger_limit=Rate(0.001, 1)) as service:
        async with connected(service) as connection:
            for path in (VERIFY, "/no.Service/Call", "/grpc.health.v1.Health/Check"):
                await connection.status(connection.call(headers(path), http2.message(b"")))
        assert metric(service, "stranger") == 2
        await service.admin.VerifyKey(key_string="x")
        assert metric(service, "stranger") == 2


async def test_strangers_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes memory: when too many calls wait, the next one does not, until one of them has ended."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 3600.0)
    monkeypatch.setattr("authsvc.entrance.strangers._MAX_WAITING", 2)
    strangers = Strangers(Rate(0.001, 1), lambda: 0.0)
    async with asyncio.timeout(30):
        await strangers.wait("192.0.2.1")
        waiting = [asyncio.create_task(strangers.wait("192.0.2.1")) for _ in range(2)]
        await asyncio.sleep(0)
        assert strangers.delayed == 2
        await strangers.wait("192.0.2.1")
        assert strangers.delayed == 2
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(strangers.wait("192.0.2.1")))
        await asyncio.sleep(0)
        assert strangers.delayed == 3
    for task in waiting:
        task.cancel()


async def test_streams_of_reflection_and_health_are_bounded(service: Service) -> None:
    """Per connection; a stream that ends frees its place."""
    asked = http2.message(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    watched = http2.message(health_pb2.HealthCheckRequest().SerializeToString())
    reflection_paths = [REFLECTION, OLD_REFLECTION]
    for paths, request, most in ((reflection_paths, asked, 4), ([WATCH], watched, 16)):
        async with connected(service) as connection, connected(service) as other:
            # Streams of both reflection versions count together.
            alternately = itertools.islice(itertools.cycle(paths), most)
            streams = [connection.call(headers(path), request, end=False) for path in alternately]
            for stream in streams:
                while not connection.received[stream]:
                    await connection.changed()
            for path in paths:
                assert await connection.status(connection.call(headers(path), request)) == RESOURCE_EXHAUSTED
            stream = other.call(headers(paths[0]), request, end=False)
            while not other.received[stream]:
                await other.changed()
    assert metric(service, "stream") == 3


def test_streams_of_all_are_bounded() -> None:
    streams = Streams("health", max_open=3, max_per_connection=2)
    with (
        streams.counted("a"),
        streams.counted("a"),
        streams.counted("b"),
        pytest.raises(Overloaded),
        streams.counted("c"),
    ):
        pass
    with streams.counted("c"):
        assert streams.refused == 1


async def test_reflection_can_be_switched_off(database_url: str, clock: Clock) -> None:
    async with serving(database_url, clock, reflection=False) as service, connected(service) as connection:
        for path in (REFLECTION, OLD_REFLECTION):
            call = connection.call(headers(path), http2.message(b""))
            assert await connection.status(call) == UNIMPLEMENTED


QUESTIONS: list[dict[str, Any]] = [
    {"list_services": ""},
    {"file_by_filename": "authsvc/v1/key_service.proto"},
    {"file_containing_symbol": "authsvc.v1.KeyService.VerifyKey"},
    {"file_containing_symbol": "grpc.reflection.v1.ServerReflection"},
    {"file_containing_symbol": "grpc.reflection.v1alpha.ServerReflection"},
    {"file_containing_symbol": "no.Such"},
    {
        "file_containing_extension": {
            "containing_type": "google.protobuf.MethodOptions",
            "extension_number": 50_000,
        }
    },
    {"all_extension_numbers_of_type": "google.protobuf.MethodOptions"},
    {"all_extension_numbers_of_type": "grpc.reflection.v1.ExtensionRequest"},
    {"all_extension_numbers_of_type": "no.Such"},
    {"host": "x"},
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: "-".join(question))
def test_reflection_tells_what_grpcs_own_does(question: dict[str, Any]) -> None:
    """Also the second time, when the answer is cached."""
    ours, theirs = Reflection(["authsvc.v1.KeyService"]), Theirs()
    asked = reflection_pb2.ServerReflectionRequest(**question)
    for _ in "ab":
        told = ours.answer(asked.SerializeToString())
        assert reflection_pb2.ServerReflectionResponse.FromString(told) == theirs.answer(asked)


class Theirs(BaseReflectionServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(["authsvc.v1.KeyService", *SERVICES], pool=CommentedPool())

    def answer(self, asked: Any) -> Any:
        match asked.WhichOneof("message_request"):
            case "list_services":
                return self._list_services(asked)
            case "file_by_filename":
                return self._file_by_filename(asked, asked.file_by_filename)
            case "file_containing_symbol":
                return self._file_containing_symbol(asked, asked.file_containing_symbol)
            case "file_containing_extension":
                extension = asked.file_containing_extension
                return self._file_containing_extension(
                    asked, extension.containing_type, extension.extension_number
                )
            case "all_extension_numbers_of_type":
                return self._all_extension_numbers_of_type(asked, asked.all_extension_numbers_of_type)
        code, text = grpc.StatusCode.INVALID_ARGUMENT.value
        error = reflection_pb2.ErrorResponse(error_code=code, error_message=text)
        return reflection_pb2.ServerReflectionResponse(error_response=error, original_request=asked)
