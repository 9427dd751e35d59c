"""The interceptor: which calls are accepted, which are refused, and with which errors."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authsvc.client import (
    AuthClient,
    Authenticated,
    CredentialType,
    RateLimit,
    VerdictCode,
    current,
    peer_address,
)
from authsvc.v1 import resources_pb2
from tests.client.standin import Standin
from tests.client.target import KINDS, SYNC, Target, scopes, target
from tests.conftest import Clock, Service
from tests.e2e.process import eventually
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def bearer(credential: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {credential}")


@pytest.mark.parametrize("method", KINDS)
async def test_a_good_key_comes_in(service: Service, client: AuthClient, method: str) -> None:
    """Handlers of every kind run once, and know their caller."""
    made = await make(service, scopes=scopes(method))
    async with target(client) as on:
        answers = await on.call(method, bearer(made.key_string))
        assert answers[0].startswith(f"acme {made.key.key_id} key".encode())
        assert on.entered == [made.key.key_id]


@pytest.mark.parametrize("method", KINDS)
async def test_all_others_stay_out(service: Service, client: AuthClient, clock: Clock, method: str) -> None:
    """Whatever is wrong with a credential, no handler runs, and the caller gets the reason."""
    good = await make(service, scopes=scopes(method))
    other = await make(service, scopes=[scope for kind in KINDS if kind != method for scope in scopes(kind)])
    minute = Duration(seconds=60)
    revoked, expired = [await make(service, scopes=scopes(method), ttl=minute) for _ in range(2)]
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=60)
    good_session = await service.admin.CreateSession(owner_id="alice", scopes=scopes(method))
    wrong = good.key_string[:-1] + ("a" if good.key_string[-1] != "a" else "b")
    cases: list[tuple[list[tuple[str, str]], grpc.StatusCode, str]] = [
        ([], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([("x-forwarded-for", good.key_string)], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([("authorization", good.key_string)], UNAUTHENTICATED, "CREDENTIAL_SCHEME"),
        ([("authorization", f"Basic {good.key_string}")], UNAUTHENTICATED, "CREDENTIAL_SCHEME"),
        (
            [("authorization", "Basic eDp5"), ("x-api-key", good.key_string)],
            UNAUTHENTICATED,
            "CREDENTIAL_SCHEME",
        ),
        ([("authorization", "")], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([("authorization", "Bearer ")], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([("x-api-key", "")], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([("x-api-key", ""), ("authorization", "Bearer")], UNAUTHENTICATED, "CREDENTIAL_MISSING"),
        ([bearer("rubbish")], UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        ([bearer("a" * 5000)], UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        ([bearer("authsvc_live_" + "0" * 63)], UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        ([bearer("authsvc_session_" + "0" * 63)], UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        ([bearer(wrong)], UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        ([bearer(f"{good.key_string}, Bearer {good.key_string}")], UNAUTHENTICATED, "CREDENTIAL_AMBIGUOUS"),
        ([bearer(good.key_string)] * 2, UNAUTHENTICATED, "CREDENTIAL_AMBIGUOUS"),
        ([("authorization", 'Digest a="b", c="d"')], UNAUTHENTICATED, "CREDENTIAL_SCHEME"),
        ([bearer(revoked.key_string)], UNAUTHENTICATED, "CREDENTIAL_REVOKED"),
        ([bearer(expired.key_string)], UNAUTHENTICATED, "CREDENTIAL_EXPIRED"),
        ([bearer(other.key_string)], DENIED, "SCOPE_MISSING"),
        ([bearer(good.key_string), bearer(other.key_string)], UNAUTHENTICATED, "CREDENTIAL_AMBIGUOUS"),
        ([bearer(good.key_string), ("x-api-key", other.key_string)], UNAUTHENTICATED, "CREDENTIAL_AMBIGUOUS"),
        (
            [bearer(good.key_string), ("x-api-key", good_session.session_token)],
            UNAUTHENTICATED,
            "CREDENTIAL_AMBIGUOUS",
        ),
    ]
    async with target(client) as on:
        for metadata, code, reason in cases:
            with refused(code, reason) as refusal:
                await on.call(method, *metadata)
            assert good.key.key_prefix not in refusal.message
            if reason == "SCOPE_MISSING":
                assert refusal.info.metadata["required_scope"] == scopes(method)[0]
        assert on.entered == []
        assert await on.call(method, bearer(good.key_string))


async def test_the_same_credential_twice_is_one(service: Service, client: AuthClient) -> None:
    """The same key in both headers counts once; one header is enough; an empty header does not count."""
    made = await make(service)
    api_key = ("x-api-key", made.key_string)
    async with target(client, scopes=()) as on:
        for metadata in (
            [api_key],
            [bearer(made.key_string), api_key],
            [("authorization", f"bEARER  {made.key_string}")],
            [bearer(made.key_string), ("x-api-key", "")],
            [bearer(""), api_key],
            [("authorization", ""), api_key],
            [("x-api-key", ""), api_key],
        ):
            await on.call("Unary", *metadata)
        assert on.entered == [made.key.key_id] * 7


async def test_sessions_come_in(service: Service, client: AuthClient) -> None:
    """A session token is verified as such, with its scopes, until it is revoked."""
    made = await service.admin.CreateSession(owner_id="alice", scopes=scopes("Unary"))
    async with target(client) as on:
        answers = await on.call("Unary", bearer(made.session_token))
        assert answers == [f"alice {made.session.session_id} session".encode()]
        with refused(DENIED, "SCOPE_MISSING"):
            await on.call("Stream", bearer(made.session_token))
        await service.admin.RevokeSession(session_id=made.session.session_id)
        with refused(UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
            await on.call("Unary", bearer(made.session_token))
        assert len(on.entered) == 1


async def test_what_is_accepted_can_be_less(service: Service, client: AuthClient) -> None:
    """A service for machines accepts no sessions, one for people no keys."""
    key = (await make(service)).key_string
    session = (await service.admin.CreateSession(owner_id="alice")).session_token
    for accept, good, bad in (
        (CredentialType.KEY, key, session),
        (CredentialType.SESSION, session, key),
    ):
        async with target(client, scopes=(), accept=[accept]) as on:
            await on.call("Unary", bearer(good))
            with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
                await on.call("Unary", bearer(bad))
            assert len(on.entered) == 1


async def test_methods_that_nobody_listed(service: Service, client: AuthClient) -> None:
    """Not even full_access allows a method without a rule; a method's own rule takes precedence."""
    admin = await make(service, owner_id="authsvc", scopes=["full_access"])
    weak = await make(service, scopes=["a"])
    rules = {"test.Target/Unary": "a", "/test.Target/Stream": ["a", "b"]}
    async with target(client, scopes=rules) as on:
        with refused(DENIED, "METHOD_NOT_LISTED") as refusal:
            await on.call("Collect", bearer(admin.key_string))
        assert refusal.info.metadata["method"] == "/test.Target/Collect"
        await on.call("Unary", bearer(weak.key_string))
        with refused(DENIED, "SCOPE_MISSING") as refusal:
            await on.call("Stream", bearer(weak.key_string))
        assert refusal.info.metadata["required_scope"] == "b"
        await on.call("Stream", bearer(admin.key_string))
        assert on.entered == [weak.key.key_id, admin.key.key_id]
    async with target(client, scopes={**rules, "test.Target/*": "c"}) as on:
        await on.call("Unary", bearer(weak.key_string))
        with refused(DENIED, "SCOPE_MISSING"):
            await on.call("Collect", bearer(weak.key_string))


async def test_methods_that_do_not_exist(client: AuthClient) -> None:
    """They are UNIMPLEMENTED, as without the interceptor."""
    async with target(client) as on:
        rpc: Any = on.channel.unary_unary("/test.Target/Missing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc(b"x")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", KINDS)
async def test_public_methods(service: Service, client: AuthClient, method: str) -> None:
    """They require no credential, ignore any, and have no caller; other methods stay protected."""
    neighbour = next(kind for kind in KINDS if kind != method)
    async with target(client, scopes=["a"], public=[f"test.Target/{method}"]) as on:
        assert (await on.call(method))[0].startswith(b"nobody")
        assert (await on.call(method, bearer("rubbish")))[0].startswith(b"nobody")
        with refused(UNAUTHENTICATED, "CREDENTIAL_MISSING"):
            await on.call(neighbour)
        assert on.entered == ["nobody", "nobody"]


async def test_nobody_is_taken_for_another(service: Service, client: AuthClient) -> None:
    """Among many concurrent calls, in handlers of every kind, each has its own caller."""
    makes = [await make(service, owner_id=f"owner-{n}") for n in range(5)]

    async def call(made: Any, method: str) -> None:
        answers = await on.call(method, bearer(made.key_string))
        assert answers[0].startswith(f"{made.key.owner_id} {made.key.key_id} key".encode())

    async def call_publicly() -> None:
        assert await on.call("SyncUnary") == [b"nobody"]

    async with target(client, scopes=(), public=["test.Target/SyncUnary"]) as on:
        guarded_kinds = [kind for kind in KINDS if kind != "SyncUnary"]
        await asyncio.gather(
            *(call(made, kind) for made in makes for kind in guarded_kinds for _ in range(3)),
            *(call_publicly() for _ in range(20)),
        )


async def test_nobody_is_authenticated_outside_of_calls() -> None:
    """`current` raises an error instead of returning a wrong caller."""
    with pytest.raises(LookupError, match="no caller is authenticated"):
        current()


async def test_the_address_and_the_agent_are_passed_on(
    service: Service, client: AuthClient, clock: Clock
) -> None:
    """The last use shows the caller's address (rule 23); gRPC's own user agent is not shown as a device."""
    made = await make(service)
    session = await service.admin.CreateSession(
        owner_id="alice", user_agent="Mozilla/5.0 (X11) Firefox/132.0"
    )
    clock.advance(minutes=1)
    async with target(client, scopes=()) as on:
        await on.call("Unary", bearer(made.key_string))
        await on.call("Unary", bearer(session.session_token))
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == "127.0.0.1"
    shown = await service.admin.GetSession(session_id=session.session.session_id)
    assert shown.ip_address == "127.0.0.1"
    assert shown.device.user_agent == "Mozilla/5.0 (X11) Firefox/132.0"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("rubbish", ""),
    ],
)
async def test_the_address_can_come_from_a_proxy(
    service: Service, client: AuthClient, told: str, kept: str
) -> None:
    """The service says where its proxy puts it; an invalid address does not cause a refusal."""
    made = await make(service)

    def forwarded(context: Any) -> str:
        return str(dict(context.invocation_metadata())["x-real-ip"])

    async with target(client, scopes=(), client_address=forwarded) as on:
        await on.call("Unary", bearer(made.key_string), ("x-real-ip", told))
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == kept


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1"),
        ("unix:/run/orders.sock", ""),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    """Each of gRPC's forms is parsed; a peer without an address has none."""

    class Context:
        def peer(self) -> str:
            return peer

    assert peer_address(Context()) == address


@pytest.mark.parametrize("method", ["Unary", "Both", "SyncUnary", "SyncStream"])
async def test_a_fault_keeps_everybody_out(
    service: Service, client: AuthClient, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """Whatever error occurs, the call is refused, and neither the log nor the caller gets the credential."""
    made = await make(service)

    def broken(context: Any) -> str:
        raise RuntimeError(f"no address in {context.invocation_metadata()}")

    async with target(client, scopes=(), client_address=broken) as on:
        with caplog.at_level(logging.DEBUG), refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE") as refusal:
            await on.call(method, bearer(made.key_string))
        assert on.entered == []
    assert "RuntimeError" in caplog.text
    assert "in broken" in caplog.text
    for told in (caplog.text, refusal.message):
        assert made.key_string not in told


@pytest.mark.parametrize("method", KINDS)
async def test_authsvc_is_down(service: Service, caplog: pytest.LogCaptureFixture, method: str) -> None:
    """The credential cannot be verified, so the call is refused; callers get the time to wait."""
    made = await make(service, scopes=scopes(method))
    client = AuthClient("127.0.0.1:1", key=service.admin_key, tls=None, deadline=60)
    async with client, target(client) as on:
        with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE") as refusal:
            await on.call(method, bearer(made.key_string))
        assert refusal.retry_seconds == 1
        assert on.entered == []
    assert f"/test.Target/{method} cannot be authenticated: authsvc cannot verify it" in caplog.text
    assert made.key_string not in caplog.text


async def test_an_outage_does_not_flood_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Problems of one kind are logged once per second, with their number."""
    now = 0.0
    monkeypatch.setattr("authsvc.client.faults.monotonic", lambda: now)
    client = AuthClient("127.0.0.1:1", key="x", tls=None, deadline=60, attempts=1)
    async with client, target(client, scopes=()) as on:
        for now in (0.0, 0.5, 0.9, 1.0, 1.5, 2.5):  # noqa: B007 - the lambda reads it
            with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE"):
                await on.call("Unary", bearer("x"))
    logged = [record.getMessage() for record in caplog.records if "authenticated" in record.getMessage()]
    kept = [re.search(r"\d more", message) for message in logged]
    assert [match and match[0] for match in kept] == [None, "2 more", "1 more"]


@asynccontextmanager
async def slow(database_url: str) -> AsyncIterator[None]:
    """Block all key lookups while the block runs, by a lock on the table."""
    locker = await asyncpg.connect(database_url)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE authsvc.keys IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await locker.close()


@pytest.mark.parametrize("method", ["Unary", "Both", "SyncUnary", "SyncBoth"])
async def test_authsvc_is_slow(service: Service, database_url: str, method: str) -> None:
    """If the deadline passes, the credential is not verified, so the call is refused."""
    made = await make(service, scopes=scopes(method))
    service.app.cache.forget([made.key.key_prefix])
    client = AuthClient(service.address, key=service.admin_key, tls=None, deadline=0.2)
    async with slow(database_url), client, target(client) as on:
        with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE"):
            await on.call(method, bearer(made.key_string))
        assert on.entered == []


@pytest.mark.parametrize("method", ["Unary", "SyncUnary"])
@pytest.mark.parametrize(("ours", "theirs"), [(3600, 60), (60, 3600)])
async def test_the_shorter_deadline_counts(ours: float, theirs: float, method: str) -> None:
    """The call to authsvc lasts no longer than the caller's deadline or that of the client."""
    standin = Standin(VerdictCode.VALID)
    async with standin.serving() as address:
        client = AuthClient(address, key="own", tls=None, deadline=ours)
        async with client, target(client, scopes=()) as on:
            await on.call(method, bearer("x"), timeout=theirs)
    # gRPC rounds up the timeout that it sends, by less than a second.
    assert [0 < seconds < 61 for seconds in standin.remaining] == [True]


async def test_our_own_key_is_not_good(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The caller is not at fault and gets UNAVAILABLE; our log says what to fix."""
    made = await make(service)
    powerless = await make(service, owner_id="authsvc", scopes=["keys:read"])
    async with (
        AuthClient(service.address, key=powerless.key_string, tls=None, deadline=60) as client,
        target(client, scopes=()) as on,
    ):
        with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE"):
            await on.call("Unary", bearer(made.key_string))
        assert on.entered == []
    assert "VerifyKey needs the scope keys:verify" in caplog.text
    assert powerless.key_string not in caplog.text
    assert made.key_string not in caplog.text


async def test_a_client_that_has_ended(service: Service) -> None:
    """A server that outlives its client refuses all calls."""
    made = await make(service)
    async with AuthClient(service.address, key=service.admin_key, tls=None) as ended:
        pass
    async with target(ended, scopes=()) as on:
        with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE"):
            await on.call("Unary", bearer(made.key_string))
        assert on.entered == []


async def test_a_client_that_ends_with_calls_in_flight(service: Service, database_url: str) -> None:
    """Calls that wait for an answer then are refused."""
    made = await make(service)
    service.app.cache.forget([made.key.key_prefix])
    client = AuthClient(service.address, key=service.admin_key, tls=None, deadline=60)
    async with slow(database_url):
        await client.__aenter__()
        async with target(client, scopes=()) as on:
            asked = service.app.verifier.counts.copy()
            calls = [asyncio.ensure_future(on.call("Unary", bearer(made.key_string))) for _ in range(5)]
            # At least one call has reached authsvc: it has authenticated its key.
            await eventually(lambda: service.app.verifier.counts != asked)
            await client.__aexit__(None, None, None)
            for call in calls:
                with refused(UNAVAILABLE, "VERIFIER_UNAVAILABLE"):
                    await call
            assert on.entered == []


async def test_interceptors_further_in_cannot_open_the_way(service: Service, client: AuthClient) -> None:
    """A handler that another interceptor substitutes for the service's is guarded as well."""

    class Answering(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(self.answer)

        async def answer(self, request: bytes, context: Any) -> bytes:
            return b"open"

    async with target(client, Answering(), scopes=()) as on:
        with refused(UNAUTHENTICATED, "CREDENTIAL_MISSING"):
            await on.call("Unary")
        assert await on.call("Unary", bearer((await make(service)).key_string)) == [b"open"]


async def test_calls_share_no_question() -> None:  # rule 15
    """A call that arrives while another one is verified is verified itself: the key may be revoked."""
    standin = Standin(VerdictCode.VALID, VerdictCode.REVOKED)
    standin.open.clear()
    async with standin.serving() as address:
        client = AuthClient(address, key="own", tls=None, deadline=60)
        async with client, target(client, scopes=()) as on:
            before = asyncio.ensure_future(on.call("Unary", bearer("x")))
            await eventually(lambda: len(standin.peers) == 1)
            after = asyncio.ensure_future(on.call("Unary", bearer("x")))
            await eventually(lambda: len(standin.peers) == 2)
            standin.open.set()
            assert await before
            with refused(UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
                await after
            assert len(on.entered) == 1


async def test_generated_services_are_guarded(service: Service, client: AuthClient) -> None:
    """A servicer that generated code adds is refused unless it is listed, like any other."""
    key_string = (await make(service, scopes=["a"])).key_string
    for options, outcome in (
        ({"scopes": {}}, "METHOD_NOT_LISTED"),
        ({"scopes": {"grpc.health.v1.Health/*": "b"}}, "SCOPE_MISSING"),
        ({"scopes": {"grpc.health.v1.Health/*": "a"}}, ""),
        ({"scopes": {}, "public": ["grpc.health.v1.Health/Check"]}, ""),
    ):
        server = grpc.aio.server(interceptors=[Authenticated(client, **options)])
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            with refused(DENIED, outcome) if outcome else nullcontext():
                await check(health_pb2.HealthCheckRequest(), metadata=[bearer(key_string)])
        await server.stop(None)


@pytest.mark.parametrize("method", ["Unary", "Both", "SyncUnary"])
async def test_no_call_after_the_answer_of_revoke(  # rule 15
    service: Service, client: AuthClient, method: str
) -> None:
    """Under load, calls that are sent after RevokeKey has returned are refused; earlier ones may succeed."""
    async with target(client, scopes=()) as on:
        for _ in range(10):
            made = await make(service)
            await _revoke_under_load(service, on, made, method)


async def _revoke_under_load(service: Service, on: Target, made: Any, method: str) -> None:
    revoked, warm = False, asyncio.Event()
    outcomes: list[object] = []

    async def load() -> None:
        while True:
            sent_after = revoked
            try:
                await on.call(method, bearer(made.key_string))
            except grpc.aio.AioRpcError as error:
                outcomes.append(error.code())
                if sent_after:
                    return
            else:
                assert not sent_after, "a revoked key got through"
                outcomes.append("ok")
                warm.set()

    running = [asyncio.ensure_future(load()) for _ in range(10)]
    await warm.wait()
    await service.admin.RevokeKey(key_id=made.key.key_id)
    revoked = True
    await asyncio.gather(*running)
    assert set(outcomes) == {"ok", UNAUTHENTICATED}


@pytest.mark.parametrize(
    "options",
    [
        {"scopes": {"Get": "a"}},
        {"scopes": {"orders.Orders": "a"}},
        {"scopes": {"orders.Orders/G*": "a"}},
        {"scopes": {"*": "a"}},
        {"scopes": {"orders.Orders/Get": "a", "/orders.Orders/Get": "b"}},
        {"scopes": {"orders.Orders/Get": "a"}, "public": ["orders.Orders/Get"]},
        {"scopes": {"orders.Orders/Get": ""}},
        {"scopes": [""]},
        {"scopes": ["a", None]},
        {"scopes": (), "public": "orders.Orders/Get"},
        {"scopes": (), "accept": []},
        {"scopes": (), "accept": ["keys"]},
    ],
)
async def test_rules_that_are_none(client: AuthClient, options: Any) -> None:
    """A mistake in the rules stops the service at its start instead of refusing calls later."""
    with pytest.raises((ValueError, TypeError)):
        Authenticated(client, **options)


def test_every_kind_is_tried() -> None:
    """The tests cover all kinds of methods of gRPC, async and in threads."""
    assert len(KINDS) == 10
    assert len(SYNC) == 4


async def test_a_key_that_has_reached_a_rate_limit(service: Service, client: AuthClient) -> None:
    """RESOURCE_EXHAUSTED with the wait; a verdict tells of the limits."""
    limit = resources_pb2.RateLimit(name="requests", limit=3)
    limit.period.seconds = 86_400
    [method, *_] = KINDS
    made = await make(service, scopes=scopes(method), rate_limits=[limit])
    async with target(client) as on:
        for _ in range(2):
            await on.call(method, bearer(made.key_string))
        verdict = await client.verify_key(made.key_string)
        assert (verdict.code, verdict.retry_after) == (VerdictCode.VALID, None)
        assert verdict.rate_limits == (RateLimit("requests", 3, 86_400, 0, 86_400, False),)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "CREDENTIAL_RATE_LIMITED") as refusal:
            await on.call(method, bearer(made.key_string))
        assert refusal.retry_seconds is not None
        assert 28_000 < refusal.retry_seconds <= 28_800
    verdict = await client.verify_key(made.key_string, cost=4)
    assert (verdict.code, verdict.valid, verdict.retry_after) == (VerdictCode.RATE_LIMITED, False, None)
    assert (await client.verify_key(made.key_string, cost=0)).valid
