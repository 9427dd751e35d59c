"""Introspection (RFC 7662) and revocation (RFC 7009), on a real service and by a real client library."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.v1 import resources_pb2
from authsvc.web.form import MAX_BYTES, BadFormError, read
from authsvc.web.introspection import Introspection
from authsvc.web.token_revocation import TokenRevocation
from tests.conftest import Clock, Service, serving
from tests.web.mounted import client_of, mounted, rpcs_of

FORM = "application/x-www-form-urlencoded"
INACTIVE = {"active": False}
GATEWAY = ["keys:verify", "sessions:verify"]
ALL = ["keys:read", "keys:verify", "keys:write", "sessions:verify", "sessions:write"]
REVOKER = ["keys:read", "keys:write", "sessions:verify", "sessions:write"]


@dataclass
class Endpoints:
    """Both endpoints of a service."""

    service: Service
    http: httpx2.AsyncClient

    async def key(self, owner_id: str = "acme", *scopes: str, **fields: Any) -> tuple[str, str]:
        """Create a key; return its key string and its id."""
        created = await self.service.admin.CreateKey(
            owner_id=owner_id, display_name="Orders", scopes=scopes, **fields
        )
        return created.key_string, created.key.key_id

    async def introspect(self, caller: str, token: str, **fields: str) -> httpx2.Response:
        return await self.http.post(
            "/introspect", data={"token": token, **fields}, headers={"authorization": f"Bearer {caller}"}
        )

    async def revoke(self, caller: str, token: str, **fields: str) -> httpx2.Response:
        return await self.http.post(
            "/revoke", data={"token": token, **fields}, headers={"authorization": f"Bearer {caller}"}
        )

    async def verdict(self, token: str) -> str:
        answer = await self.service.admin.VerifyKey(key_string=token)
        return resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")


@pytest.fixture
async def endpoints(service: Service) -> AsyncIterator[Endpoints]:
    async with AsyncExitStack() as stack:
        yield await served(service, stack)


async def served(service: Service, stack: AsyncExitStack, **kept: Any) -> Endpoints:
    """Serve both endpoints of a service until the stack ends."""
    rpcs = rpcs_of(service, **kept)
    paths = {"/introspect": Introspection(rpcs, client_of), "/revoke": TokenRevocation(rpcs, client_of)}
    return Endpoints(service, await stack.enter_async_context(mounted(paths)))


def basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {text}"}


async def test_a_key_is_described(endpoints: Endpoints, clock: Clock) -> None:  # rules 20, 23
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    token, key_id = await endpoints.key(
        "acme", "orders:read", "orders:write", ttl={"seconds": 3600}, annotations={"tier": "gold"}
    )
    answer = await endpoints.introspect(caller, token, token_type_hint="access_token")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    now = int(clock().timestamp())
    assert answer.json() == {
        "active": True,
        "token_type": "Bearer",
        "scope": "orders:read orders:write",
        "sub": "acme",
        "username": "acme",
        "client_id": key_id,
        "jti": key_id,
        "credential_type": "key",
        "annotations": {"tier": "gold"},
        "iat": now,
        "exp": now + 3600,
    }
    await endpoints.service.flush()
    assert (await endpoints.service.admin.GetKey(key_id=key_id)).HasField("last_use_time")


async def test_a_key_that_never_expires(endpoints: Endpoints, clock: Clock) -> None:
    """`iat` is the whole second of its creation, and the hint is not needed to find it."""
    clock.advance(seconds=0.999)
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    token, key_id = await endpoints.key("acme")
    told = (await endpoints.introspect(caller, token, token_type_hint="refresh_token")).json()
    created = (await endpoints.service.admin.GetKey(key_id=key_id)).create_time
    assert (told["iat"], told["scope"]) == (created.seconds, "")
    assert "exp" not in told


async def test_a_session_is_described(endpoints: Endpoints) -> None:
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    created = await endpoints.service.admin.CreateSession(owner_id="u-1", scopes=["orders:read"])
    told = (await endpoints.introspect(caller, created.session_token)).json()
    session = created.session
    assert told == {
        "active": True,
        "token_type": "Bearer",
        "scope": "orders:read",
        "sub": "u-1",
        "username": "u-1",
        "jti": session.session_id,
        "credential_type": "session",
        "iat": session.create_time.seconds,
        "exp": session.expire_time.seconds,
    }


async def test_what_is_not_valid_is_inactive(endpoints: Endpoints, clock: Clock) -> None:  # rules 20, 21
    """Whatever the cause, nothing else is said; not even of a token whose secret is right."""
    admin = endpoints.service.admin
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    revoked, key_id = await endpoints.key()
    await admin.RevokeKey(key_id=key_id)
    expired, _ = await endpoints.key("acme", ttl={"seconds": 5})
    session = await admin.CreateSession(owner_id="u-1")
    await admin.RevokeSession(session_id=session.session.session_id)
    valid, _ = await endpoints.key()
    disabled, _ = await endpoints.key("off")
    await admin.UpdateOwnerPolicy(policy={"owner_id": "off"}, update_mask={"paths": ["keys_enabled"]})
    clock.advance(seconds=5)
    other, _ = await endpoints.key("globex", *GATEWAY)
    for token in (
        revoked,
        expired,
        disabled,
        session.session_token,
        valid[:-1],
        valid[:-1] + "~",
        "eyJhbGciOi.e30.x" * 500,
        "x_session_",
        "\x00\ud7ff é",
    ):
        answer = await endpoints.introspect(caller, token)
        assert (answer.status_code, answer.json()) == (200, INACTIVE)
    assert (await endpoints.introspect(other, valid)).json() == INACTIVE  # rule 19
    assert (await endpoints.introspect(caller, valid)).json()["active"]


@pytest.mark.parametrize("user", ["", "gateway", "a b%2B"])
async def test_a_caller_by_basic(endpoints: Endpoints, user: str) -> None:
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    answer = await endpoints.http.post("/introspect", data={"token": caller}, headers=basic(user, caller))
    assert answer.json()["active"]


async def test_who_may_not_ask(endpoints: Endpoints) -> None:
    """Errors are those of RFC 6749, and a 401 asks for the scheme that was used."""
    token, _ = await endpoints.key()
    both = ['Basic realm="authsvc", charset="UTF-8"', 'Bearer realm="authsvc"']
    for headers, challenges, reason in (
        ({}, both, "CREDENTIAL_MISSING"),
        (
            {"authorization": f"Bearer {token[:-1]}"},
            [f'{both[1]}, error="invalid_token"'],
            "CREDENTIAL_INVALID",
        ),
        (basic("gateway", token[:-1]), both[:1], "CREDENTIAL_INVALID"),
        (basic(token, ""), both[:1], "CREDENTIAL_MISSING"),
        ({"authorization": "Basic ?"}, both[:1], "CREDENTIAL_SCHEME"),
        ({"authorization": f"Basic {'A' * 5000}"}, both[:1], "CREDENTIAL_SCHEME"),
    ):
        for path in ("/introspect", "/revoke"):
            answer = await endpoints.http.post(path, data={"token": token}, headers=headers)
            assert (answer.status_code, answer.headers.get_list("www-authenticate")) == (401, challenges)
            assert (answer.json()["error"], answer.json()["reason"]) == ("invalid_client", reason)
            assert answer.headers["cache-control"] == "no-store"
            assert token[:-1] not in answer.text
    for answer in (await endpoints.introspect(token, token), await endpoints.revoke(token, token)):
        assert answer.status_code == 403
        assert (answer.json()["error"], answer.json()["reason"]) == ("insufficient_scope", "SCOPE_MISSING")
    assert await endpoints.verdict(token) == "VALID"
    twice = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    answer = await endpoints.http.post("/introspect", data={"token": token}, headers=twice)
    assert (answer.status_code, answer.json()["reason"]) == (401, "CREDENTIAL_AMBIGUOUS")


async def test_what_cannot_be_known_is_not_inactive(endpoints: Endpoints) -> None:
    caller, _ = await endpoints.key("authsvc", *ALL)
    token, _ = await endpoints.key()
    assert (await endpoints.introspect(caller, token)).json()["active"]
    endpoints.service.app.lease.end("this is a test")
    for answer in (await endpoints.introspect(caller, token), await endpoints.revoke(caller, token)):
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert answer.json()["reason"] == "LEASE_OVER"
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_limit_is_not_inactive(service: Service) -> None:
    """Too many failures of an address: the gateway is told to come back."""
    async with AsyncExitStack() as stack:
        endpoints = await served(service, stack, failure_limit="0.001/1")
        token, _ = await endpoints.key()
        answers = [await endpoints.introspect(token[:-1], token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 503, 503]
    assert answers[-1].json()["reason"] == "RATE_LIMITED"


async def test_a_fault_is_not_inactive(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, _ = await endpoints.key("authsvc", *GATEWAY)

    def fails(*_: object) -> None:
        raise RuntimeError(f"a fault with {caller}")

    monkeypatch.setattr(endpoints.service.app.verifier, "verify", fails)
    answer = await endpoints.introspect(caller, "eg_live_" + "x" * 63)
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    assert caller not in answer.text


async def test_a_key_is_revoked(service: Service, database_url: str, clock: Clock) -> None:  # rules 15, 16
    """On every worker, when the answer is there; a second time it says so as well."""
    async with serving(database_url, clock) as other, AsyncExitStack() as stack:
        endpoints = await served(service, stack)
        caller, _ = await endpoints.key("authsvc", *REVOKER)
        token, key_id = await endpoints.key()
        await service.flush()
        as_admin = other.as_caller(service.admin_key)
        assert (await as_admin.VerifyKey(key_string=token)).valid
        for _ in range(2):
            answer = await endpoints.revoke(caller, token, token_type_hint="access_token")
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["cache-control"] == "no-store"
            assert not (await as_admin.VerifyKey(key_string=token)).valid
            assert await endpoints.verdict(token) == "REVOKED"
    key = await service.admin.GetKey(key_id=key_id)
    assert key.revoke_reason == "revoked by POST /revoke"


async def test_a_revocation_is_no_use(endpoints: Endpoints) -> None:  # rule 23
    """Who used a leaked key last can still be seen."""
    caller, _ = await endpoints.key("authsvc", *REVOKER)
    token, key_id = await endpoints.key()
    await endpoints.revoke(caller, token)
    await endpoints.service.flush()
    assert not (await endpoints.service.admin.GetKey(key_id=key_id)).HasField("last_use_time")


async def test_a_session_is_ended(endpoints: Endpoints) -> None:  # rules 25, 27
    caller, _ = await endpoints.key("authsvc", *REVOKER)
    one, two = [await endpoints.service.admin.CreateSession(owner_id="u-1") for _ in range(2)]
    for _ in range(2):
        assert (await endpoints.revoke(caller, one.session_token)).status_code == 200
    verdicts = [
        await endpoints.service.admin.VerifySession(session_token=each.session_token) for each in (one, two)
    ]
    assert [verdict.valid for verdict in verdicts] == [False, True]


async def test_a_scheduled_revocation_happens_now(endpoints: Endpoints) -> None:  # rule 14
    caller, _ = await endpoints.key("authsvc", *REVOKER)
    token, key_id = await endpoints.key()
    await endpoints.service.admin.RevokeKey(key_id=key_id, revoke_in={"seconds": 3600})
    assert (await endpoints.revoke(caller, token)).status_code == 200
    assert await endpoints.verdict(token) == "REVOKED"


async def test_a_key_revokes_itself(endpoints: Endpoints) -> None:
    token, _ = await endpoints.key("authsvc", *REVOKER)
    assert (await endpoints.revoke(token, token)).status_code == 200
    assert (await endpoints.revoke(token, token)).status_code == 401


async def test_what_there_is_not_is_revoked_already(endpoints: Endpoints) -> None:  # rule 19
    """Another owner's key looks the same, and stays as it is."""
    caller, _ = await endpoints.key("globex", *REVOKER)
    token, _ = await endpoints.key()
    session = await endpoints.service.admin.CreateSession(owner_id="u-1")
    for text in (token, token[:-1], session.session_token, "x_session_", "no token of ours"):
        assert (await endpoints.revoke(caller, text)).status_code == 200
    assert await endpoints.verdict(token) == "VALID"


async def test_what_must_not_be_revoked(endpoints: Endpoints) -> None:
    """The last administrator's key, and keys of an owner whose policy names its managers."""
    admin_key = endpoints.service.admin_key
    answer = await endpoints.revoke(admin_key, admin_key)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["reason"] == "LAST_ADMINISTRATOR_KEY"
    caller, _ = await endpoints.key("acme", *REVOKER)
    token, _ = await endpoints.key()
    await endpoints.service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "key_managers": "KEY_MANAGERS_SESSIONS_ONLY"},
        update_mask={"paths": ["key_managers"]},
    )
    answer = await endpoints.revoke(caller, token)
    assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")
    assert answer.json()["reason"] == "KEY_MANAGER_NOT_PERMITTED"
    assert await endpoints.verdict(token) == "VALID"


BAD: dict[str, tuple[bytes, Any, int]] = {
    "no type": (b"token=x", {}, 415),
    "json": (b'{"token": "x"}', {"content-type": "application/json"}, 415),
    "charset": (b"token=x", {"content-type": f"{FORM}; charset=latin-1"}, 415),
    "parameter": (b"token=x", {"content-type": f"{FORM}; charset=utf-8; boundary=x"}, 415),
    "two types": (b"token=x", [("content-type", FORM), ("content-type", FORM)], 415),
    "gzip": (b"token=x", {"content-type": FORM, "content-encoding": "gzip"}, 415),
    "nothing": (b"", {"content-type": FORM}, 400),
    "no token": (b"token_type_hint=access_token", {"content-type": FORM}, 400),
    "empty token": (b"token=", {"content-type": FORM}, 400),
    "no value": (b"token", {"content-type": FORM}, 400),
    "twice": (b"token=x&token=x", {"content-type": FORM}, 400),
    "hint twice": (b"token=x&token_type_hint=a&token_type_hint=", {"content-type": FORM}, 400),
    "secret": (b"token=x&client_secret=y", {"content-type": FORM}, 400),
    "not utf-8": (b"token=x&a=%ff", {"content-type": FORM}, 400),
    "raw not utf-8": (b"token=x&a=\xff", {"content-type": FORM}, 400),
    "surrogate": (b"token=x&a=%ed%a0%80", {"content-type": FORM}, 400),
    "name not utf-8": (b"token=x&%ff=a", {"content-type": FORM}, 400),
    "too many": (b"token=x" + b"&a=" * 16, {"content-type": FORM}, 400),
    "too long": (b"token=" + b"x" * MAX_BYTES, {"content-type": FORM}, 413),
}


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
async def test_a_bad_form(endpoints: Endpoints, path: str) -> None:
    for case, (body, headers, status) in BAD.items():
        answer = await endpoints.http.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (status, "invalid_request"), case
        assert answer.headers["cache-control"] == "no-store"


async def test_a_token_of_any_bytes(endpoints: Endpoints) -> None:
    """It is none of ours, so it is inactive, and revoked already."""
    caller, _ = await endpoints.key("authsvc", *ALL)
    token, _ = await endpoints.key()
    headers = {"content-type": FORM, "authorization": f"Bearer {caller}"}
    for octets in (b"%ff", b"\xff", b"%ed%a0%80", b"%00", b"x_session_%ff", token.encode() + b"%ff"):
        for path, told in (("/introspect", b'{"active":false}'), ("/revoke", b"")):
            answer = await endpoints.http.post(path, content=b"token=" + octets, headers=headers)
            assert (answer.status_code, answer.content) == (200, told), (path, octets)
    assert await endpoints.verdict(token) == "VALID"
    text = await endpoints.http.post(
        "/introspect", content=f"a=%C3%BC&b=\u00fc&token={token}", headers=headers
    )
    assert text.json()["active"]


async def test_a_form_of_another_site(endpoints: Endpoints) -> None:
    """Browsers send a certificate with it, so nothing is done for it, whoever is known."""
    caller, _ = await endpoints.key("authsvc", *ALL)
    token, _ = await endpoints.key()
    for site, status in {"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200}.items():
        headers = {"authorization": f"Bearer {caller}", "sec-fetch-site": site}
        for path in ("/introspect", "/revoke"):
            answer = await endpoints.http.post(path, data={"token": token}, headers=headers)
            assert answer.status_code == status, (path, site)
            if status == 403:
                assert answer.json()["error"] == "invalid_request"
                assert "another site" in answer.json()["error_description"]
        assert await endpoints.verdict(token) == ("VALID" if status == 403 else "REVOKED")


async def test_a_long_form_in_pieces(endpoints: Endpoints) -> None:
    """Whose length is not announced."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"token="
        for _ in range(17):
            yield b"x" * 1024

    answer = await endpoints.http.post("/introspect", content=pieces(), headers={"content-type": FORM})
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
async def test_only_post(endpoints: Endpoints, path: str) -> None:
    caller, _ = await endpoints.key("authsvc", *ALL)
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = await endpoints.http.request(method, path, headers=basic("", caller))
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    # A token in an address is in logs by then; it is not verified there, or people would go on.
    answer = await endpoints.http.post(
        f"{path}?token={caller}", data={"token": caller}, headers=basic("", caller)
    )
    assert answer.status_code == 400
    assert caller not in answer.text
    assert await endpoints.verdict(caller) == "VALID"


async def test_utf_8_may_be_named(endpoints: Endpoints) -> None:
    caller, _ = await endpoints.key("authsvc", *GATEWAY)
    headers = {"content-type": f'{FORM.upper()} ; Charset="UTF-8"', "authorization": f"Bearer {caller}"}
    answer = await endpoints.http.post("/introspect", content=f"unknown=1&token={caller}", headers=headers)
    assert answer.json()["active"]


async def test_no_key_in_a_log(endpoints: Endpoints, caplog: pytest.LogCaptureFixture) -> None:  # rule 1
    caplog.set_level(logging.DEBUG, "authsvc")
    caller, _ = await endpoints.key("authsvc", *ALL)
    token, _ = await endpoints.key()
    bodies = []
    for text in (token, f"{token}x", f"&token={token}", f"{token}&client_secret={caller}"):
        for headers in (basic("x", caller), basic("x", f"{caller}x"), {}):
            for path in ("/introspect", "/revoke"):
                answer = await endpoints.http.post(
                    path, content=f"token={text}", headers={**headers, "content-type": FORM}
                )
                bodies.append(answer.text + repr(answer.headers))
    told = "\n".join(bodies) + caplog.text
    assert token[-51:-8] not in told
    assert caller[-51:-8] not in told


async def test_by_a_client_library(endpoints: Endpoints) -> None:
    """Authlib's client, as resource servers use it."""
    caller, _ = await endpoints.key("authsvc", *ALL)
    token, key_id = await endpoints.key("acme", "orders:read")
    base = str(endpoints.http.base_url)
    async with AsyncOAuth2Client("orders-api", caller) as client:
        told = await client.introspect_token(f"{base}/introspect", token, "access_token")
        assert (told.json()["active"], told.json()["jti"]) == (True, key_id)
        revoked = await client.revoke_token(f"{base}/revoke", token, "access_token")
        assert revoked.status_code == 200
        told = await client.introspect_token(f"{base}/introspect", token)
        assert told.json() == INACTIVE


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_a_form_of_any_bytes(body: bytes) -> None:
    """It is read or refused, and the error leads to nothing that was sent."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"token=" + body}

    try:
        form = asyncio.run(read(receive))
    except BadFormError as error:
        refused: BaseException | None = error
    else:
        refused = None
        assert all(form.values())
    assert refused is None or (refused.__cause__, refused.__context__) == (None, None)
