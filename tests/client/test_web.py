"""The middlewares in real servers: which requests reach the application, and what it sees of them."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import resources_pb2
from tests.client.standin import Standin
from tests.client.webapp import KINDS, PARTS, Target, behind, own_key
from tests.conftest import Clock, Service
from tests.e2e.process import eventually
from tests.rpc.test_revoke import make

Header = tuple[str, str]
OPTIONS: dict[str, Any] = {
    "scopes": {"/orders/**": "orders:read", "POST /orders/*": "orders:write", "/stream": [], "/": []},
    "public": ["/public/**", "GET /health"],
    "cookies": ["sid"],
}

AMBIGUOUS = [
    "/unknown",
    "/orders2",
    "/public/../orders/1",
    "/public/%2e%2e/orders/1",
    "/public/..%2forders/1",
    "/public/.%00./x",
    "/public%2f..%2forders/1",
    "/public/%252e%252e/orders/1",
    "/public/..;/orders/1",
    "/public;/x",
    "/public\\..\\orders",
    "/public%5c..%5corders",
    "/public/%ef%bc%8e%ef%bc%8e/x",
    "/public//x",
    "/./public",
    "/PUBLIC",
    "/Public/x",
    "/%50ublic",
    "/%EF%BD%90ublic",
    "/publi%E2%80%8Bc",
    "/public/%ff",
    "/public/%c0%ae%c0%ae/x",
    "/public/%0a",
    "/public/a%3fb",
    "/public/" + "a" * 8200,
]

pytestmark = pytest.mark.parametrize("kind", KINDS)


def bearer(credential: str) -> Header:
    return ("Authorization", f"Bearer {credential}")


async def test_who_comes_in(service: Service, kind: str) -> None:
    """The application knows the caller, and sees neither the credential nor what the client says of it."""
    made = await make(service, scopes=["orders:read"])
    key, key_id = made.key_string, made.key.key_id
    opened = await service.admin.CreateSession(owner_id="alice", scopes=["orders:read"])
    token, session_id = opened.session_token, opened.session.session_id
    own = await own_key(service)
    async with behind(kind, service.address, own, **OPTIONS) as target:
        for headers, credential_id in (
            ([bearer(key)], key_id),
            ([("X-API-Key", key)], key_id),
            ([bearer(key), ("x-api-key", key)], key_id),
            ([("authorization", f"bEARER   {key}  ")], key_id),
            ([("authorization", ""), ("x-api-key", key)], key_id),
            ([bearer(token)], session_id),
            ([("cookie", f"sid={token}")], session_id),
            ([("cookie", f"a=1; sid={token}")], session_id),
            ([("cookie", f"sid={token}; a=1")], session_id),
            ([("cookie", f'a=1;sid="{token}"')], session_id),
            ([("cookie", f"sid=stale; a=1; sid={token}")], session_id),
            ([("cookie", f"sid={token}; sid={token}"), bearer(token)], session_id),
        ):
            answer = await target.send(
                "GET",
                "/orders/1",
                *headers,
                ("x-auth-owner-id", "root"),
                ("x_auth_scopes", "full_access"),
                ("X-Auth-Key-Id", "key_1"),
                ("X-HTTP-Method-Override", "DELETE"),
                ("x-other", "kept"),
            )
            assert answer.status == 200, headers
            seen = answer.json
            assert (seen["caller"], seen["identity"]) == (credential_id, credential_id)
            assert seen.get("thread", credential_id) == seen.get("task", credential_id) == credential_id
            with_others = any("a=1" in value for _, value in headers)
            expected = {"x-other": "kept"} | ({"cookie": "a=1"} if with_others else {})
            assert {name: value for name, value in seen["headers"].items() if name != "host"} | {
                "accept-encoding": "identity"
            } == expected | {"accept-encoding": "identity"}


async def test_who_stays_out(service: Service, clock: Clock, kind: str) -> None:
    """Whatever is wrong with a credential, the application is not called, and the client is told."""
    good = await make(service, scopes=["orders:read"])
    other = await make(service, scopes=["orders:list"])
    revoked, expired = [
        await make(service, scopes=["orders:read"], ttl=Duration(seconds=60)) for _ in range(2)
    ]
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=60)
    opened = await service.admin.CreateSession(owner_id="alice", scopes=["orders:read"])
    another = await service.admin.CreateSession(owner_id="alice", scopes=["orders:read"])
    key, token = good.key_string, opened.session_token
    cases: list[tuple[list[Header], int, str, str]] = [
        ([], 401, "CREDENTIAL_MISSING", ""),
        ([("authorization", "")], 401, "CREDENTIAL_MISSING", ""),
        ([("authorization", "Bearer ")], 401, "CREDENTIAL_MISSING", ""),
        ([("cookie", "a=1")], 401, "CREDENTIAL_MISSING", ""),
        ([("cookie", f"other={token}")], 401, "CREDENTIAL_MISSING", ""),
        ([("cookie", "sid=")], 401, "CREDENTIAL_MISSING", ""),
        ([("x-other", key)], 401, "CREDENTIAL_MISSING", ""),
        ([("authorization", f"Basic {key}")], 401, "CREDENTIAL_SCHEME", ""),
        ([("authorization", key)], 401, "CREDENTIAL_SCHEME", ""),
        ([("authorization", "Basic eDp5"), ("x-api-key", key)], 401, "CREDENTIAL_SCHEME", ""),
        ([bearer(key), ("x-api-key", token)], 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        ([bearer(key)] * 2, 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        ([("x-api-key", key)] * 2, 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        ([bearer(key), ("cookie", "sid=stale")], 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        ([bearer(key), ("cookie", f"sid={token}")], 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        (
            [("cookie", f"sid={token}; sid={another.session_token}")],
            401,
            "CREDENTIAL_AMBIGUOUS",
            "invalid_request",
        ),
        ([("cookie", f"a=1,sid=x; sid={token}")], 401, "CREDENTIAL_AMBIGUOUS", "invalid_request"),
        (
            [("cookie", f"a=1 sid={another.session_token}; sid={token}")],
            401,
            "CREDENTIAL_AMBIGUOUS",
            "invalid_request",
        ),
        (
            [("cookie", "; ".join(f"sid={number}" for number in range(5)))],
            401,
            "CREDENTIAL_AMBIGUOUS",
            "invalid_request",
        ),
        ([bearer("rubbish")], 401, "CREDENTIAL_INVALID", "invalid_token"),
        ([bearer("a" * 5000)], 401, "CREDENTIAL_INVALID", "invalid_token"),
        ([bearer("é" * 5)], 401, "CREDENTIAL_INVALID", "invalid_token"),
        ([("cookie", "sid=1; sid=2")], 401, "CREDENTIAL_INVALID", "invalid_token"),
        ([bearer(revoked.key_string)], 401, "CREDENTIAL_REVOKED", "invalid_token"),
        ([("cookie", f"sid=1; sid={revoked.key_string}")], 401, "CREDENTIAL_REVOKED", "invalid_token"),
        ([bearer(expired.key_string)], 401, "CREDENTIAL_EXPIRED", "invalid_token"),
        ([bearer(other.key_string)], 403, "SCOPE_MISSING", "insufficient_scope"),
    ]
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        for headers, status, reason, error in cases:
            answer = await target.send("GET", "/orders/1", *headers)
            assert answer.outcome == (status, reason), headers
            challenge = answer.headers["www-authenticate"]
            assert (f'error="{error}"' if error else 'realm="authsvc"') in challenge
            assert bool(error) is ("error=" in challenge)
            if status == 403:
                assert 'scope="orders:read"' in challenge
                assert answer.json["missing_scopes"] == ["orders:read"]
        assert target.entered == []
        assert (await target.get(key, "/orders/1")).status == 200


async def test_the_application_sees_the_credential_if_it_is_kept(service: Service, kind: str) -> None:
    """Of several cookies, only the one that counts."""
    token = (await service.admin.CreateSession(owner_id="alice")).session_token
    options: dict[str, Any] = {"scopes": [], "cookies": ["sid"], "keep_credential": True}
    async with behind(kind, service.address, await own_key(service), **options) as target:
        seen = (await target.get(token)).json
        assert seen["headers"]["authorization"] == f"Bearer {token}"
        seen = (await target.send("GET", "/", ("cookie", f"sid=stale; sid={token}; a=1"))).json
        assert seen["headers"]["cookie"] == f"sid={token}; a=1"


async def test_a_public_request(service: Service, kind: str) -> None:
    """It has no caller, even with a credential; only what has the form of one of ours is removed."""
    made = await make(service)
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        for target_path in ("/public", "/public/", "/public/a/b", "/health", "/health?x=1"):
            assert (await target.send("GET", target_path)).status == 200
        assert (await target.send("HEAD", "/health")).status == 200
        assert (await target.send("POST", "/health")).outcome == (403, "ROUTE_NOT_PERMITTED")
        seen = (
            await target.send(
                "GET",
                "/public",
                ("authorization", "Basic eDp5"),
                ("x-api-key", made.key_string),
                ("cookie", f"sid={made.key_string}; a=1"),
                ("x-auth-owner-id", "root"),
            )
        ).json
        assert (seen["caller"], seen["identity"]) == (None, None)
        assert seen["headers"]["authorization"] == "Basic eDp5"
        assert seen["headers"]["cookie"] == "a=1"
        assert not {"x-api-key", "x-auth-owner-id"} & set(seen["headers"])
        # The caller of the request before is gone.
        assert (await target.get(made.key_string)).json["caller"] == made.key.key_id
        assert (await target.send("GET", "/public")).json["caller"] is None


async def test_paths_that_may_be_others(service: Service, kind: str) -> None:
    """They are refused, with any credential."""
    key = (await make(service, scopes=["full_access"])).key_string
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        for path in AMBIGUOUS:
            for headers in ([], [bearer(key)]):
                answer = await target.send("GET", path, *headers)
                assert answer.outcome == (403, "ROUTE_NOT_PERMITTED"), path
        assert target.entered == []
        for path in ("/%6frders/%C3%A9", "/orders/", "/orders/a.b/..c", "/orders?x=/../"):
            assert (await target.get(key, path)).status == 200, path
        # wsgiref removes slashes at the beginning and gives no raw path: the application sees another one.
        for path in ("//public", "/public%2fx"):
            if kind == "asgi":
                assert (await target.send("GET", path)).outcome == (403, "ROUTE_NOT_PERMITTED")
            else:
                assert (await target.send("GET", path)).json["path"].startswith("/public")


async def test_the_method_counts(service: Service, kind: str) -> None:
    """A header that would change it does not reach the application; unknown methods are not guessed."""
    reader = (await make(service, scopes=["orders:read"])).key_string
    override = ("X-HTTP-Method-Override", "POST")
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        assert (await target.send("POST", "/orders/1", bearer(reader))).outcome == (403, "SCOPE_MISSING")
        answer = await target.send("GET", "/orders/1", bearer(reader), override)
        assert answer.json["method"] == "GET"
        assert "x-http-method-override" not in answer.json["headers"]
        assert (await target.send("PATCH", "/orders/1", bearer(reader))).status == 200
        if kind == "asgi":  # a server for tests of WSGI does not accept such a method
            assert (await target.send("post", "/orders/1", bearer(reader))).status == 403
        assert {seen["method"] for seen in target.entered} == {"GET", "PATCH"}


async def test_one_rule_for_all(service: Service, kind: str) -> None:
    """Then no path is refused, and a public path is only public if there is no doubt about it."""
    key = (await make(service, scopes=["orders:read"])).key_string
    options = {"scopes": ["orders:read"], "public": ["/health"]}
    async with behind(kind, service.address, await own_key(service), **options) as target:
        assert (await target.send("GET", "/health")).status == 200
        for path in ("/", "/a//b", "/health/../x", "/Health", "/health/x", "/a%2fb", "/health%3b"):
            assert (await target.send("GET", path)).outcome == (401, "CREDENTIAL_MISSING"), path
            assert (await target.get(key, path)).status == 200, path


async def test_preflights(service: Service, kind: str) -> None:
    """They carry no credential, and pass only if that is asked for."""
    preflight = [("Origin", "https://example.com"), ("Access-Control-Request-Method", "DELETE")]
    own = await own_key(service)
    async with behind(kind, service.address, own, scopes=[]) as target:
        assert (await target.send("OPTIONS", "/", *preflight)).outcome == (401, "CREDENTIAL_MISSING")
    async with behind(kind, service.address, own, scopes={"/a": "b"}, preflights=True) as target:
        answer = await target.send("OPTIONS", "/", *preflight)
        assert (answer.status, answer.json["caller"]) == (200, None)
        for method, headers in (
            ("OPTIONS", []),
            ("OPTIONS", preflight[:1]),
            ("OPTIONS", preflight[1:]),
            ("DELETE", preflight),
        ):
            assert (await target.send(method, "/", *headers)).status == 403


async def test_head_and_streams(service: Service, kind: str) -> None:
    """A HEAD is refused without a body; the code that streams a response knows the caller throughout."""
    made = await make(service)
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        full, head = await target.send("GET", "/stream"), await target.send("HEAD", "/stream")
        assert (head.status, head.body) == (401, b"")
        assert head.headers["content-length"] == full.headers["content-length"] == str(len(full.body))
        answer = await target.send("HEAD", "/", bearer(made.key_string))
        assert (answer.status, answer.headers["x-seen"], answer.body) == (200, "yes", b"")
        answer = await target.get(made.key_string, "/stream")
        assert answer.body.decode().split() == [made.key.key_id] * PARTS
        await eventually(lambda: len(target.entered) == 3)
        assert target.entered[-1]["caller"] == made.key.key_id


async def test_threads_do_not_mix_callers(service: Service, kind: str) -> None:
    """Many requests at a time, of several callers and of none."""
    made = [await make(service) for _ in range(4)]
    options = {"scopes": [], "public": ["/public"]}
    async with behind(kind, service.address, await own_key(service), **options) as target:

        async def one(number: int) -> None:
            who = made[number % 4]
            answer = await target.get(who.key_string, "/stream")
            assert answer.body.decode().split() == [who.key.key_id] * PARTS
            assert (await target.send("GET", "/public")).json["caller"] is None

        await asyncio.gather(*(one(number) for number in range(60)))


async def test_revoked_under_load(service: Service, kind: str) -> None:  # rule 15
    """No request that is sent after RevokeKey has answered is let through; those before are."""
    async with behind(kind, service.address, await own_key(service), scopes=[]) as target:
        for _ in range(5):
            await _revoke_under_load(service, target)


async def _revoke_under_load(service: Service, target: Target) -> None:
    made = await make(service)
    revoked, served = False, asyncio.Event()

    async def load() -> None:
        while True:
            sent_after = revoked
            answer = await target.get(made.key_string)
            if answer.status == 200:
                assert not sent_after, "a revoked key got through"
                served.set()
            else:
                assert answer.outcome == (401, "CREDENTIAL_REVOKED")
                return

    running = [asyncio.ensure_future(load()) for _ in range(4)]
    await served.wait()
    await service.admin.RevokeKey(key_id=made.key.key_id)
    revoked = True
    await asyncio.gather(*running)


async def test_authsvc_is_down(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is not known: 503, and the cause is in the log, without the credential."""
    key = "authsvc_live_" + "0" * 63
    async with behind(kind, "127.0.0.1:1", "own", **{**OPTIONS, "deadline": 0.5}) as target:
        answer = await target.get(key)
        assert answer.outcome == (503, "VERIFIER_UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
        assert (await target.send("GET", "/health")).status == 200
        assert len(target.entered) == 1
    assert "a request cannot be authenticated: authsvc cannot verify it" in caplog.text
    assert key not in caplog.text


async def test_our_own_key_is_not_good(service: Service, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client is not told, and is not blamed."""
    made, powerless = await make(service), await make(service)
    async with behind(kind, service.address, powerless.key_string, **OPTIONS) as target:
        assert (await target.get(made.key_string)).outcome == (503, "VERIFIER_UNAVAILABLE")
        assert target.entered == []
    assert "needs the scope keys:verify" in caplog.text
    assert made.key_string not in caplog.text


async def test_an_error_in_what_we_are_given(
    service: Service, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that fails lets nobody in."""
    made = await make(service)

    def broken(request: Any) -> str:
        raise RuntimeError(made.key_string)

    options = {"scopes": [], "client_address": broken}
    async with behind(kind, service.address, await own_key(service), **options) as target:
        assert (await target.get(made.key_string)).outcome == (503, "VERIFIER_UNAVAILABLE")
        assert target.entered == []
    assert "in broken" in caplog.text
    assert made.key_string not in caplog.text


async def test_addresses_and_devices(service: Service, clock: Clock, kind: str) -> None:
    """The user's address and device reach authsvc, from where the service says."""
    made = await make(service)
    opened = await service.admin.CreateSession(owner_id="alice")
    own = await own_key(service)
    clock.advance(minutes=1)

    async def last_used_from() -> str:
        await service.flush()
        found = await service.admin.GetKey(key_id=made.key.key_id)
        return str(found.last_use_ip)

    async with behind(kind, service.address, own, scopes=[]) as target:
        await target.get(made.key_string)
        assert await last_used_from() == "127.0.0.1"
    options = {"scopes": [], "client_address": lambda request: "192.0.2.7"}
    async with behind(kind, service.address, own, **options) as target:
        await target.get(made.key_string)
        agent = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        await target.send("GET", "/", bearer(opened.session_token), agent)
    await service.flush()
    found = await service.admin.GetSession(session_id=opened.session.session_id)
    assert found.ip_address == "192.0.2.7"
    assert "Firefox" in found.device.user_agent


async def test_what_the_server_overload_says(kind: str) -> None:
    """The delay that authsvc gives is passed on, in whole seconds."""
    standin = Standin(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY", retry_after=2.5)
    async with standin.serving() as address, behind(kind, address, "own", scopes=[]) as target:
        answer = await target.get("authsvc_live_" + "0" * 63)
        assert answer.outcome == (503, "VERIFIER_UNAVAILABLE")
        assert answer.headers["retry-after"] == "3"


async def test_a_key_that_has_reached_a_rate_limit(service: Service, kind: str) -> None:
    """429 with the wait and what is left; the application does not see the request."""
    limit = resources_pb2.RateLimit(name="requests", limit=2)
    limit.period.seconds = 86_400
    made = await make(service, scopes=["orders:read"], rate_limits=[limit])
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        for _ in range(2):
            assert (await target.send("GET", "/orders/1", bearer(made.key_string))).status == 200
        answer = await target.send("GET", "/orders/1", bearer(made.key_string))
        assert answer.outcome == (429, "CREDENTIAL_RATE_LIMITED")
        assert answer.headers["retry-after"] == "43200"
        assert answer.headers["ratelimit-policy"] == '"requests";q=2;w=86400'
        assert answer.headers["ratelimit"] == '"requests";r=0;t=86400'


async def test_a_key_without_credits(service: Service, kind: str) -> None:
    """429 with the wait until the refill, and no limits; the application does not see the request."""
    refill = {"amount": 5, "day_of_month": 1}
    made = await make(service, scopes=["orders:read"], credits={"remaining": 1, "refill": refill})
    async with behind(kind, service.address, await own_key(service), **OPTIONS) as target:
        assert (await target.send("GET", "/orders/1", bearer(made.key_string))).status == 200
        answer = await target.send("GET", "/orders/1", bearer(made.key_string))
        assert answer.outcome == (429, "CREDENTIAL_CREDITS_EXHAUSTED")
        assert 0 < int(answer.headers["retry-after"]) <= 31 * 86_400
        assert not {"ratelimit", "ratelimit-policy"}.intersection(answer.headers)
