"""The client against the real service: verdicts, deadlines, retries, connections, its own key."""

import asyncio
import dataclasses
import logging
import os
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2

from authsvc.client import (
    AuthClient,
    ClientError,
    CredentialType,
    Refused,
    Unavailable,
    Verdict,
    VerdictCode,
    auth_client,
    backoff,
    rich_status,
    verdict,
)
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2, session_service_pb2
from tests.client.standin import Standin
from tests.conftest import Clock, Service, serving
from tests.e2e.process import free_port
from tests.rpc.test_revoke import make

VALID = VerdictCode.VALID


async def test_a_valid_key(service: Service, client: AuthClient, clock: Clock) -> None:  # rule 20
    """The verdict has the owner, the scopes, the expiry and the annotations."""
    made = await make(service, scopes=["b:c", "a"], annotations={"team": "x"}, ttl=Duration(seconds=60))
    found = await client.verify_key(made.key_string, ["a"], "192.0.2.7")
    assert found == Verdict(
        code=VerdictCode.VALID,
        type=CredentialType.KEY,
        credential_id=made.key.key_id,
        owner_id="acme",
        scopes=("a", "b:c"),
        expire_time=clock.now + timedelta(seconds=60),
        annotations={"team": "x"},
    )
    assert found.valid
    assert bool(found) is True
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == "192.0.2.7"


async def test_a_valid_session(service: Service, client: AuthClient, clock: Clock) -> None:
    """The same for a session; the address and the user agent become those of the session."""
    made = await service.admin.CreateSession(owner_id="alice", scopes=["a"])
    clock.advance(minutes=1)
    found = await client.verify_session(made.session_token, "a", "192.0.2.7", "Mozilla/5.0 Firefox/132.0")
    assert (found.code, found.type) == (VerdictCode.VALID, CredentialType.SESSION)
    assert (found.credential_id, found.owner_id) == (made.session.session_id, "alice")
    assert found.scopes == ("a",)
    assert found.expire_time is not None
    assert found.expire_time.tzinfo is UTC
    await service.flush()
    shown = await service.admin.GetSession(session_id=made.session.session_id)
    assert (shown.ip_address, shown.device.user_agent) == ("192.0.2.7", "Mozilla/5.0 Firefox/132.0")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("Caf\udcc3\udca9/1.0", "Café/1.0"),  # UTF-8 that a server has decoded as ASCII
        ("a\udce9b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        ("Café/1.0", "Café/1.0"),
    ],
)
@pytest.mark.parametrize(
    ("address", "kept"),
    [("testclient", ""), ("fe80::1%eth0", "fe80::1"), ("[2001:DB8::1]:443", "2001:db8::1")],
)
async def test_what_is_only_shown_fails_no_verification(
    service: Service, client: AuthClient, clock: Clock, told: str, shown: str, address: str, kept: str
) -> None:
    """Surrogates in a user agent, and values that are not addresses."""
    made = await service.admin.CreateSession(owner_id="alice")
    clock.advance(minutes=1)
    assert await client.verify_session(made.session_token, (), address, told)
    key = await service.admin.CreateKey(owner_id="acme", display_name="k")
    assert await client.verify_key(key.key_string, (), address)
    await service.flush()
    found = await service.admin.GetSession(session_id=made.session.session_id)
    assert (found.device.user_agent, found.ip_address) == (shown, kept)
    assert (await service.admin.GetKey(key_id=key.key.key_id)).last_use_ip == kept


async def test_client_hints_are_taken_from_headers(
    service: Service, client: AuthClient, clock: Clock
) -> None:
    """Only these headers of the user's request are sent."""
    made = await service.admin.CreateSession(owner_id="alice")
    clock.advance(minutes=1)
    headers = {"Sec-CH-UA-Platform": '"Windows"', "sec-ch-ua-platform-version": '"15.0.0"', "cookie": "x"}
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
    assert await client.verify_session(made.session_token, user_agent=agent, headers=headers)
    await service.flush()
    found = await service.admin.GetSession(session_id=made.session.session_id)
    assert (found.device.os, found.device.os_version) == ("Windows", "11")


@pytest.mark.parametrize("path", ["/run/secrets/key", "./key", "~/key", "keys/mine", "C:\\key"])
def test_a_key_that_looks_like_a_path(path: str) -> None:
    """The error says what to pass instead, and does not contain the value."""
    with pytest.raises(ValueError, match=r"looks like a path.*pathlib\.Path") as caught:
        AuthClient("127.0.0.1:1", key=path, tls=None)
    assert path not in str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16"])
async def test_a_key_file_may_have_a_byte_order_mark(service: Service, tmp_path: Path, encoding: str) -> None:
    """The format of editors and shells on Windows."""
    made = await service.admin.CreateKey(owner_id="authsvc", display_name="k", scopes=["keys:verify"])
    file = tmp_path / "key"
    file.write_text(f"{made.key_string}\n", encoding)
    async with AuthClient(service.address, key=file, tls=None) as client:
        assert await client.verify_key(made.key_string)


@pytest.mark.parametrize(("before", "after"), [("", "\n"), (" ", "\r\n"), ("\t", " "), ("\u00a0", "")])
async def test_blanks_around_a_credential(
    service: Service, client: AuthClient, before: str, after: str
) -> None:
    """A key that was read from a file or pasted is the same key."""
    key_string = (await make(service)).key_string
    token = (await service.admin.CreateSession(owner_id="alice")).session_token
    assert await client.verify_key(before + key_string + after)
    assert await client.verify_session(before + token + after)
    assert not await client.verify_key(key_string[:20] + " " + key_string[20:])


async def test_bad_credentials_are_answers(service: Service, client: AuthClient, clock: Clock) -> None:
    """Each code is a verdict that is false; for an unknown key, it has nothing else (rules 20 and 21)."""
    revoked, expired, weak = [
        await make(service, scopes=["a"], ttl=Duration(seconds=60 if n < 2 else 600)) for n in range(3)
    ]
    session = (await service.admin.CreateSession(owner_id="alice")).session_token
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=60)
    for text, code in (
        (revoked.key_string, VerdictCode.REVOKED),
        (expired.key_string, VerdictCode.EXPIRED),
        (weak.key_string, VerdictCode.INSUFFICIENT_SCOPE),
        (session, VerdictCode.NOT_FOUND),
    ):
        found = await client.verify_key(text, ["a", "b"])
        assert found.code is code
        assert not found
        assert not found.valid
    assert (await client.verify_session(weak.key_string)).code is VerdictCode.NOT_FOUND


@pytest.mark.parametrize(
    "text", ["", " ", "rubbish", "\0", "x" * 1025, "x" * 100_000, "ключ_live_" + "a" * 63, "\ud800", "a\nb"]
)
async def test_rubbish_is_not_found(client: AuthClient, text: str) -> None:
    """Any text has a verdict, even one that a message cannot contain."""
    assert await client.verify_key(text) == Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
    assert await client.verify_session(text) == Verdict(VerdictCode.NOT_FOUND, CredentialType.SESSION)


def test_verdict_codes_are_all_known() -> None:
    """Each code of the API has a name here; only VALID is valid, and only if both fields agree."""
    for name, number in resources_pb2.VerdictCode.items():
        code = name.removeprefix("VERDICT_CODE_")
        is_valid = code == "VALID"
        found = verdict.of_key(pb.VerifyKeyResponse(code=number, valid=is_valid))
        assert found.code.name == ("OTHER" if code == "UNSPECIFIED" else code)
        assert found.valid is is_valid
        session = session_service_pb2.VerifySessionResponse(code=number, valid=not is_valid)
        assert verdict.of_session(session).code is VerdictCode.OTHER
    newer: Any = 99
    for valid in (True, False):
        assert verdict.of_key(pb.VerifyKeyResponse(code=newer, valid=valid)).code is VerdictCode.OTHER


def test_a_service_that_does_not_know_any_of_scopes_is_not_relied_on() -> None:
    """It answers VALID whatever was asked for."""
    answer = pb.VerifyKeyResponse(code=resources_pb2.VERDICT_CODE_VALID, valid=True, scopes=["a"])
    assert verdict.of_key(answer, ("a", "b")).valid
    assert verdict.of_key(answer, ("b",)).code is VerdictCode.INSUFFICIENT_SCOPE
    answer.scopes[:] = ["full_access"]
    assert verdict.of_key(answer, ("b",)).valid


def test_a_verdict_does_not_change() -> None:
    """A verdict cannot be made valid afterwards."""
    found = Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.code = VerdictCode.VALID  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        found.valid = True  # type: ignore[misc]


async def test_nobody_listens(service: Service) -> None:
    """It raises Unavailable, and the message names the origin."""
    async with AuthClient(f"127.0.0.1:{free_port()}", key="x", tls=None, deadline=60) as client:
        with pytest.raises(Unavailable, match="authsvc cannot verify it") as caught:
            await client.verify_key("authsvc_live_x")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.retry_after is None


async def test_a_service_that_comes_back(database_url: str, clock: Clock) -> None:
    """A call that begins while no server runs is answered once one does, within its deadline."""
    port = free_port()
    async with serving(database_url, clock, listen=f"127.0.0.1:{port}") as first:
        made, key = await make(first), first.admin_key
        async with AuthClient(first.address, key=key, tls=None, deadline=60, attempts=10_000) as client:
            assert await client.verify_key(made.key_string)
    async with AuthClient(f"127.0.0.1:{port}", key=key, tls=None, deadline=60, attempts=1) as hasty:
        with pytest.raises(Unavailable):
            await hasty.verify_key(made.key_string)
    async with AuthClient(f"127.0.0.1:{port}", key=key, tls=None, deadline=60, attempts=10_000) as client:
        asking = asyncio.ensure_future(client.verify_key(made.key_string))
        async with serving(database_url, clock, listen=f"127.0.0.1:{port}"):
            assert (await asking).valid


async def test_the_deadline_ends_all_attempts(service: Service, database_url: str) -> None:
    """If there is no response in time, it raises Unavailable with gRPC's code."""
    made = await make(service)
    service.app.cache.forget([made.key.key_prefix])
    locker = await asyncpg.connect(database_url)
    async with AuthClient(service.address, key=service.admin_key, tls=None, deadline=60) as client:
        async with locker.transaction():
            await locker.execute("LOCK TABLE authsvc.keys IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Unavailable) as caught:
                await client.verify_key(made.key_string, deadline=0.2)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await client.verify_key(made.key_string)).valid
    await locker.close()


@asynccontextmanager
async def asking(standin: Standin, **options: Any) -> AsyncIterator[AuthClient]:
    given = {"key": "own", "tls": None, "deadline": 60, **options}
    async with standin.serving() as address, AuthClient(address, **given) as client:
        yield client


async def test_unavailable_is_tried_again_up_to_a_bound() -> None:
    """A response after two failures is returned; as many failures as attempts are an error."""
    down = grpc.StatusCode.UNAVAILABLE
    twice = Standin(down, down, VALID)
    async with asking(twice) as client:
        assert (await client.verify_key("x")).valid
    assert len(twice.peers) == 3
    ever = Standin(down, reason="LEASE_OVER", retry_after=1.5)
    async with asking(ever, attempts=4) as client:
        with pytest.raises(Unavailable) as caught:
            await client.verify_key("x")
    assert len(ever.peers) == 4
    assert (caught.value.reason, caught.value.retry_after) == ("LEASE_OVER", 1.5)


REFUSALS = {
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "NOT_FOUND",
}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (code, Refused if code.name in REFUSALS else Unavailable)
        for code in grpc.StatusCode
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    ],
)
async def test_nothing_else_is_tried_again(code: grpc.StatusCode, error: type[Exception]) -> None:
    """RESOURCE_EXHAUSTED in particular is not retried; the caller gets the time to wait."""
    standin = Standin(code, VALID, reason="HASHER_QUEUE_FULL", retry_after=2)
    async with asking(standin) as client:
        with pytest.raises(error) as caught:
            await client.verify_key("x")
    assert len(standin.peers) == 1
    assert isinstance(caught.value, (Unavailable, Refused))
    assert (caught.value.code, caught.value.reason) == (code, "HASHER_QUEUE_FULL")
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after == 2


async def test_no_attempt_begins_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the wait would exceed it, the failure is raised at once."""
    monkeypatch.setattr(auth_client, "wait", lambda attempt: 3600.0)
    standin = Standin(grpc.StatusCode.UNAVAILABLE)
    async with asking(standin) as client:
        with pytest.raises(Unavailable):
            await client.verify_key("x")
    assert len(standin.peers) == 1


def test_pauses_grow_and_differ() -> None:
    """At most 50 ms, then twice as long each time, up to a second; jitter spreads simultaneous failures."""
    assert [backoff.wait(n, lambda: 1.0) for n in (1, 2, 3, 4, 5)] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert [backoff.wait(n, lambda: 1.0) for n in (6, 7, 10_000)] == [1.0, 1.0, 1.0]
    assert backoff.wait(1, lambda: 0.0) == 0.025
    assert len({backoff.wait(1) for _ in range(100)}) > 50


async def test_calls_spread_over_connections() -> None:
    """The requested number of connections is made, and all are used."""
    standin = Standin(VALID)
    async with asking(standin, connections=4) as client:
        while len(set(standin.peers)) < 4:
            await client.verify_key("x")
        standin.peers.clear()
        await asyncio.gather(*(client.verify_key("x") for _ in range(400)))
    assert sorted(Counter(standin.peers).values()) == [100] * 4


async def test_calls_spread_over_addresses() -> None:
    """A name with several replicas is balanced over all of them; a replica that is gone is skipped."""
    one, two = Standin(VALID), Standin(VALID)
    async with one.serving() as first:
        async with two.serving() as second:
            target = f"ipv4:{first},{second}"
            async with AuthClient(target, key="own", tls=None, deadline=60, connections=1) as client:
                while not (one.peers and two.peers):
                    await client.verify_key("x")
        async with AuthClient(f"ipv4:{first},{second}", key="own", tls=None, deadline=60) as client:
            for _ in range(20):
                assert await client.verify_key("x")


async def test_a_worker_that_cannot_answer_is_left_out() -> None:
    """While it reports NOT_SERVING, another one is called; afterwards it is used again."""
    states = health_pb2.HealthCheckResponse
    sick, well = Standin(VALID), Standin(VALID)
    async with sick.serving() as first, well.serving() as second:
        target = f"ipv4:{first},{second}"
        async with AuthClient(target, key="own", tls=None, deadline=60, connections=1) as client:
            while not (sick.peers and well.peers):
                await client.verify_key("x")
            await sick.tell_health(states.NOT_SERVING)
            streak = 0
            while streak < 20:
                before = len(well.peers)
                assert await client.verify_key("x")
                streak = streak + 1 if len(well.peers) > before else 0
            await sick.tell_health(states.SERVING)
            sick.peers.clear()
            while not sick.peers:
                assert await client.verify_key("x")


async def test_a_connection_that_lets_deadlines_pass_is_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two workers, a hanging one costs one call and is tried again later; a single one is always used."""
    now = 0.0
    monkeypatch.setattr("authsvc.client.channels.monotonic", lambda: now)
    standin = Standin(VALID)
    async with asking(standin, connections=2) as client:
        while len(set(standin.peers)) < 2:
            await client.verify_key("x")
        standin.hanging = standin.peers[-2]  # the next one
        with pytest.raises(Unavailable):
            await client.verify_key("x", deadline=0.5)
        standin.peers.clear()
        for _ in range(10):
            assert await client.verify_key("x")
        assert standin.hanging not in standin.peers
        now = 5.0
        standin.hanging = ""
        for _ in range(2):
            assert await client.verify_key("x")
        assert len(set(standin.peers)) == 2
    async with asking(standin, connections=1) as client:
        await client.verify_key("x")
        standin.hanging = standin.peers[-1]
        with pytest.raises(Unavailable):
            await client.verify_key("x", deadline=0.5)
        standin.hanging = ""
        assert await client.verify_key("x")


async def test_no_time_is_left() -> None:
    """Without time left, nothing is sent."""
    standin = Standin(VALID)
    async with asking(standin) as client:
        for deadline in (0, -1):
            with pytest.raises(Unavailable) as caught:
                await client.verify_key("x", deadline=deadline)
            assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert standin.peers == []


async def test_an_attempt_goes_to_another_connection() -> None:
    """A call that one worker cannot answer is sent to another."""
    standin = Standin(VALID)
    async with asking(standin, connections=2) as client:
        while len(set(standin.peers)) < 2:
            await client.verify_key("x")
        standin.peers.clear()
        standin.outcomes = (grpc.StatusCode.UNAVAILABLE, VALID)
        assert await client.verify_key("x")
    assert len(set(standin.peers)) == 2


async def test_a_key_file_is_read_anew(tmp_path: Path) -> None:
    """A key that was rotated in its file is used from the next call on; a broken file is ignored."""
    file = tmp_path / "authsvc.key"
    file.write_text("first\n")
    standin = Standin(VALID)
    async with asking(standin, key=file) as client:
        for written in ("second", "", "no key at all", None):
            await client.verify_key("x")
            file.unlink() if written is None else file.write_text(written)
        await client.verify_key("x")
    assert standin.keys == ["Bearer first"] + ["Bearer second"] * 4


async def test_an_old_key_file_is_read_anew(tmp_path: Path) -> None:
    """Also if the file is old, and is overwritten or replaced with a key of the same length."""
    file, other = tmp_path / "authsvc.key", tmp_path / "authsvc.key.new"
    standin = Standin(VALID)
    async with asking(standin, key=file) as client:
        for age, key in ((7200, "one"), (3600, "two")):
            file.write_text(key)
            os.utime(file, (time.time() - age,) * 2)
            await client.verify_key("x")
            await client.verify_key("x")
        other.write_text("six")
        os.utime(other, ns=(file.stat().st_mtime_ns,) * 2)
        other.replace(file)
        await client.verify_key("x")
    assert standin.keys == [f"Bearer {key}" for key in ("one", "one", "two", "two", "six")]


async def test_a_key_file_that_is_written_twice_at_once_is_read_anew(tmp_path: Path) -> None:
    """Two writes of the same length within one tick of the file system's clock cannot be distinguished."""
    file = tmp_path / "authsvc.key"
    file.write_text("one")
    stamp = file.stat().st_mtime_ns
    standin = Standin(VALID)
    async with asking(standin, key=file) as client:
        # As at the time of the write, however long this test takes.
        os.utime(file, ns=(stamp + 3600 * 10**9,) * 2)
        await client.verify_key("x")
        file.write_text("two")
        os.utime(file, ns=(stamp + 3600 * 10**9,) * 2)
        await client.verify_key("x")
    assert standin.keys == ["Bearer one", "Bearer two"]


async def test_a_key_can_be_asked_for() -> None:
    """A function is called before each attempt."""
    keys = iter(["first", "second", "third"])
    standin = Standin(VALID, grpc.StatusCode.UNAVAILABLE, VALID)
    async with asking(standin, key=lambda: next(keys)) as client:
        await client.verify_key("x")
        await client.verify_key("x")
    assert standin.keys == ["Bearer first", "Bearer second", "Bearer third"]


async def test_no_key_for_those_whom_a_certificate_names() -> None:
    """Without a key, no header is sent."""
    standin = Standin(VALID)
    async with asking(standin, key=None) as client:
        await client.verify_key("x")
    assert standin.keys == [""]


@pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "a\x00b"])
async def test_an_own_key_that_is_none(key: str, tmp_path: Path) -> None:
    """A string is refused at once, other sources at the call, and the error does not contain the key."""
    with pytest.raises(ValueError, match="check that it was copied completely"):
        AuthClient("127.0.0.1:1", key=key, tls=None)
    file = tmp_path / "key"
    file.write_text(key, "utf-8")
    for source in (file, tmp_path / "missing", lambda: key):
        async with AuthClient("127.0.0.1:1", key=source, tls=None) as client:
            with pytest.raises(Refused, match="cannot get the client's own key") as caught:
                await client.verify_key("x")
        assert caught.value.reason == "OWN_KEY_MISSING"
        assert not key.strip() or key not in str(caught.value)


async def test_what_we_ask_wrongly(service: Service, client: AuthClient) -> None:
    """Too many scopes are Refused with the field; invalid scopes are not sent."""
    with pytest.raises(Refused, match="required_scopes") as caught:
        await client.verify_key("x", [f"s{number}" for number in range(65)])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == "INVALID_FIELD"
    with pytest.raises(ValueError, match="is not a valid scope"):
        await client.verify_key("x", [""])


async def test_no_key_is_told(service: Service, caplog: pytest.LogCaptureFixture) -> None:  # rule 1
    """At the most verbose level, whatever a call results in, its keys are in no log, error or cause."""
    made = await make(service)
    powerless = (await make(service, owner_id="authsvc")).key_string
    told = []
    with caplog.at_level(logging.DEBUG):
        for address, key in (
            (service.address, service.admin_key),
            (service.address, powerless),
            (service.address, made.key_string[:-1]),
            (f"127.0.0.1:{free_port()}", service.admin_key),
        ):
            async with AuthClient(address, key=key, tls=None, attempts=2, deadline=30) as client:
                try:
                    told.append(repr(await client.verify_key(made.key_string, client_ip="192.0.2.7")))
                except ClientError as error:
                    told += traceback.format_exception(error)
                    told += map(repr, (error, error.__context__, error.__cause__))
    assert sum("ClientError" in line or "Refused" in line for line in told) >= 2
    everything = "\n".join([caplog.text, *told])
    for key in (service.admin_key, powerless, made.key_string):
        assert key[20:-8] not in everything


async def test_the_life_of_a_client() -> None:
    """It is used within its block, once; its `repr` contains no key."""
    client = AuthClient("127.0.0.1:1", key="hunter2", tls=None)
    with pytest.raises(RuntimeError, match="async with"):
        await client.verify_key("x")
    async with client:
        with pytest.raises(RuntimeError, match="already running"):
            await client.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await client.verify_key("x")
    assert "hunter2" not in repr(client)
    wrongs: list[dict[str, Any]] = [{"deadline": 0}, {"attempts": 0}, {"connections": 0}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="must be positive"):
            AuthClient("127.0.0.1:1", key="x", tls=None, **wrong)


async def test_a_cancelled_call_is_cancelled(service: Service, database_url: str) -> None:
    """A cancelled caller gets CancelledError, not an error of the client."""
    made = await make(service)
    service.app.cache.forget([made.key.key_prefix])
    locker = await asyncpg.connect(database_url)
    client = AuthClient(service.address, key=service.admin_key, tls=None, deadline=60)
    async with client, locker.transaction():
        await locker.execute("LOCK TABLE authsvc.keys IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.verify_key(made.key_string)
    await locker.close()


def test_details_of_strangers_are_passed_over() -> None:
    """Trailers of a proxy are not a reason of authsvc, and malformed ones are ignored."""
    name = "grpc-status-details-bin"
    assert rich_status.read(None) == ("", None)
    assert rich_status.read([("x", "y"), (name, b"\xff\xff")]) == ("", None)
    ours = rich_status.write(grpc.StatusCode.UNAVAILABLE, "m", "LEASE_OVER", {"a": "b"}, 1.25)
    assert rich_status.read(ours) == ("LEASE_OVER", 1.25)
    theirs = ours[0][1].replace(b"authsvc", b"example")
    assert rich_status.read([(name, theirs)]) == ("", 1.25)
