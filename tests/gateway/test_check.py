"""Envoy's check request, sent to the service directly."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToDict

from authsvc.gateway.identity import NAMES
from authsvc.gateway.v1.ext_authz_pb2 import CheckRequest, CheckResponse
from authsvc.v1.owner_policy_service_pb2 import OwnerPolicy
from tests.conftest import Clock, Service, both_transports, serving
from tests.gateway.conftest import ASKS, key
from tests.rpc.refusal import refused

_PATH = "/envoy.service.auth.v3.Authorization/Check"


pytest_generate_tests = both_transports


@pytest.fixture(autouse=True)
def over_each(transport: str) -> None:
    """Run all tests of this file over each transport."""


class Envoy:
    """Sends check requests as Envoy does, with its own key."""

    def __init__(self, service: Service, own: str) -> None:
        self._call: Any = service.channel.unary_unary(
            _PATH,
            response_deserializer=CheckResponse.FromString,
        )
        self._metadata = [("authorization", f"Bearer {own}")] if own else []

    async def ask(
        self,
        headers: Mapping[str, str],
        scopes: str | None = None,
        *,
        method: str = "GET",
        path: str = "/",
        extensions: Mapping[str, str] = {},
        address: str = "192.0.2.1",
    ) -> CheckResponse:
        asked = CheckRequest()
        asked.attributes.source.address.socket_address.address = address
        http = asked.attributes.request.http
        http.method, http.path = method, path
        http.headers.update(headers)
        asked.attributes.context_extensions.update(extensions)
        if scopes is not None:
            asked.attributes.context_extensions["authsvc.required_scopes"] = scopes
        return await self.send(asked)

    async def send(self, asked: CheckRequest | bytes) -> CheckResponse:
        data = asked if isinstance(asked, bytes) else asked.SerializeToString()
        answer: CheckResponse = await self._call(data, metadata=self._metadata, timeout=30)
        return answer


def _outcome(answer: CheckResponse) -> int:
    """Return the status that the client gets; 200 if the request is allowed."""
    if answer.HasField("ok_response"):
        assert answer.status.code == 0
        return 200
    assert answer.status.code != 0
    assert answer.HasField("denied_response")
    return answer.denied_response.status.code


def _reason(answer: CheckResponse) -> str:
    assert answer.HasField("denied_response")
    reason: str = json.loads(answer.denied_response.body)["reason"]
    return reason


def _set(answer: CheckResponse) -> dict[str, str]:
    headers = answer.ok_response.headers
    assert all(option.append_action == 2 for option in headers), "others would be joined to what was made up"
    return {option.header.key: option.header.value for option in headers}


def _bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
async def envoy(service: Service) -> Envoy:
    return Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])


async def test_a_good_key_and_who_it_is(service: Service, envoy: Envoy) -> None:
    """Headers for the upstream and metadata for other filters; the credential is removed."""
    text, key_id = await key(service, "b:c", "a")
    for _ in ("cold", "warm"):
        answer = await envoy.ask({**_bearer(text), "cookie": "a=b"}, "a b:c")
        assert _outcome(answer) == 200
        assert _set(answer) == {
            "x-auth-key-id": key_id,
            "x-auth-owner-id": "acme",
            "x-auth-scopes": "a b:c",
            "x-auth-credential-type": "key",
        }
        assert set(answer.ok_response.headers_to_remove) == {"x-auth-session-id", "authorization"}
        assert MessageToDict(answer.dynamic_metadata) == {
            "key_id": key_id,
            "owner_id": "acme",
            "credential_type": "key",
            "scopes": ["a", "b:c"],
        }


async def test_a_key_without_scopes(service: Service, envoy: Envoy) -> None:
    """The answer says that it has none."""
    text, _ = await key(service)
    answer = await envoy.ask(_bearer(text))
    assert _set(answer)["x-auth-scopes"] == ""
    assert MessageToDict(answer.dynamic_metadata)["scopes"] == []
    assert _outcome(await envoy.ask(_bearer(text), "a")) == 403


async def test_nothing_is_remembered_of_an_answer(service: Service, envoy: Envoy) -> None:
    """The same key for other routes, other keys for the same route, other proxies: decided each time.

    CVE-2021-32701 was a cache that was keyed by the token without the scopes.
    """
    one, one_id = await key(service, "a")
    two, two_id = await key(service, "b", owner_id="other")
    confined = Envoy(service, (await key(service, *ASKS, owner_id="acme"))[0])
    for _ in range(3):
        assert _outcome(await envoy.ask(_bearer(one), "a")) == 200
        assert _outcome(await envoy.ask(_bearer(one), "b")) == 403
        assert _outcome(await envoy.ask(_bearer(one), "a b")) == 403
        assert _outcome(await envoy.ask(_bearer(two), "a")) == 403
        assert _set(await envoy.ask(_bearer(two), "b"))["x-auth-key-id"] == two_id
        assert _set(await envoy.ask(_bearer(one)))["x-auth-key-id"] == one_id
        # A proxy of one owner cannot check other owners' keys (rule 19).
        assert _outcome(await confined.ask(_bearer(one), "a")) == 200
        assert _outcome(await confined.ask(_bearer(two), "b")) == 401


async def test_who_may_ask(service: Service) -> None:
    """Only callers with a valid credential that may verify both keys and sessions.

    As everywhere, a credential of an owner covers what the owner has, and one of the platform everything.
    """
    text, _ = await key(service, "a")
    revoked, key_id = await key(service, *ASKS, owner_id="authsvc")
    await service.admin.RevokeKey(key_id=key_id)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
        await Envoy(service, revoked).ask(_bearer(text))
    session = (await service.admin.CreateSession(owner_id="acme", scopes=ASKS)).session_token
    for own, status in (
        ((await key(service, *ASKS, owner_id="authsvc"))[0], 200),
        ((await key(service, *ASKS, owner_id="acme"))[0], 200),
        (session, 200),
        ((await key(service, "full_access", owner_id="globex"))[0], 401),
    ):
        assert _outcome(await Envoy(service, own).ask(_bearer(text))) == status
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING"):
        await Envoy(service, "").ask(_bearer(text))
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"):
        await Envoy(service, "x").ask(_bearer(text))
    for scopes in (["keys:verify"], ["sessions:verify"], ["a"]):
        own, _ = await key(service, *scopes, owner_id="authsvc")
        with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
            await Envoy(service, own).ask(_bearer(text))


@pytest.mark.parametrize(
    "extensions",
    [
        {"authsvc.required_scopes": "A"},
        {"authsvc.required_scopes": "a;b"},
        {"authsvc.required_scope": "a"},
        {"authsvc.required_scopes": "a", "authsvc.public": "true"},
        {"authsvc.any_of_scopes": "A"},
        {"authsvc.any_of_scopes": ""},
        {"authsvc.required_scopes": "a", "authsvc.any_of_scopes": " "},
    ],
)
async def test_settings_that_say_nothing_let_nobody_through(
    service: Service, envoy: Envoy, extensions: dict[str, str]
) -> None:
    """A mistake in Envoy's configuration is 500 and a log entry; it does not open the route."""
    text, _ = await key(service, "full_access")
    assert _outcome(await envoy.ask(_bearer(text), extensions=extensions)) == 500


async def test_one_of_several_scopes(service: Service, envoy: Envoy) -> None:
    """Beside those that are all required; the refusal names what would be enough."""
    text, _ = await key(service, "a", "b")
    for settings, status in (
        ({"authsvc.any_of_scopes": "c b"}, 200),
        ({"authsvc.any_of_scopes": "c, d"}, 403),
        ({"authsvc.required_scopes": "a", "authsvc.any_of_scopes": "c b"}, 200),
        ({"authsvc.required_scopes": "e", "authsvc.any_of_scopes": "a"}, 403),
    ):
        assert _outcome(await envoy.ask(_bearer(text), extensions=settings)) == status
    full, _ = await key(service, "full_access")
    assert _outcome(await envoy.ask(_bearer(full), extensions={"authsvc.any_of_scopes": "c"})) == 200
    denied = (await envoy.ask(_bearer(text), extensions={"authsvc.any_of_scopes": "c d"})).denied_response
    problem = json.loads(denied.body)
    assert problem["any_of_scopes"] == ["c", "d"]
    assert problem["detail"] == "This request requires the scope c or d; use a credential that has it."
    headers = {option.header.key: option.header.value for option in denied.headers}
    assert headers["www-authenticate"].endswith('scope="c d"')
    as_grpc = {**_bearer(text), "content-type": "application/grpc"}
    denied = (await envoy.ask(as_grpc, extensions={"authsvc.any_of_scopes": "c d"})).denied_response
    headers = {option.header.key: option.header.value for option in denied.headers}
    details = headers["grpc-status-details-bin"]
    assert b"any_of_scopes" in b64decode(details + "=" * (-len(details) % 4))


async def test_the_table_and_the_proxy_name_alternatives(
    database_url: str, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only one of them may: there is no telling what both together would allow."""
    table = tmp_path / "routes.toml"
    table.write_text(
        '[[route]]\nmethods = ["GET"]\npath = "/files/*"\nscopes = ["a"]\nany_of_scopes = ["b", "c"]\n'
        '[[route]]\npath = "/health"\npublic = true\n'
    )
    async with serving(database_url, clock, routes=table) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        for scopes, status in ((("a", "c"), 200), (("a",), 403), (("b",), 403), (("full_access",), 200)):
            text, _ = await key(service, *scopes)
            assert _outcome(await envoy.ask(_bearer(text), path="/files/1")) == status
            assert _outcome(await envoy.ask(_bearer(text), "d", path="/files/1")) in (403, status)
        settings = {"authsvc.any_of_scopes": "a"}
        assert _outcome(await envoy.ask(_bearer(text), path="/files/1", extensions=settings)) == 500
        assert "any_of_scopes; name them in one" in caplog.text
        # The proxy's alternatives count on a public route, too.
        assert _outcome(await envoy.ask({}, path="/health")) == 200
        assert _outcome(await envoy.ask({}, path="/health", extensions=settings)) == 401


@pytest.mark.parametrize("shown", [1, 25, 45, 60])
async def test_a_credential_in_settings_is_not_logged_in_part(
    service: Service, envoy: Envoy, caplog: pytest.LogCaptureFixture, shown: int
) -> None:
    """Where the log truncates: a part of a credential would not be recognized, and so not be redacted."""
    text, _ = await key(service)
    before = f"{'z' * (199 - shown)}-"
    assert _outcome(await envoy.ask({}, f"{before}{text}")) == 500
    assert f"'{before}… ({len(text)} more characters)' are not valid scopes" in caplog.text
    before = f"authsvc.{'z' * (191 - shown)}-"
    assert _outcome(await envoy.ask({}, extensions={f"{before}{text}": ""})) == 500
    assert f"{before}… ({len(text)} more characters) is not known" in caplog.text


async def test_settings_of_others_are_theirs(service: Service, envoy: Envoy) -> None:
    """Envoy's routes may contain settings for other checkers."""
    text, _ = await key(service, "a")
    assert _outcome(await envoy.ask(_bearer(text), "a", extensions={"virtual_host": "x"})) == 200


async def test_underscores_are_taken_for_hyphens_by_some(service: Service, envoy: Envoy) -> None:
    """A header that an upstream could take for one of ours is removed if the proxy accepts it."""
    text, _ = await key(service)
    made_up = {name.replace("-", "_"): "evil" for name in NAMES} | {"x_auth-owner_id": "evil", "a_b": "c"}
    answer = await envoy.ask({**_bearer(text), **made_up})
    assert set(made_up) - {"a_b"} <= set(answer.ok_response.headers_to_remove)
    assert "a_b" not in answer.ok_response.headers_to_remove


async def test_the_upstream_serves_what_the_proxy_has_judged(service: Service, envoy: Envoy) -> None:
    """If the proxy requires scopes, it chose them by method and path, which no header may override."""
    text, _ = await key(service, "a")
    rewriting = {"x-http-method-override": "DELETE", "x_http_method": "DELETE", "x-original-url": "/b"}
    for scopes, removed in (("a", set(rewriting)), (None, set())):
        answer = await envoy.ask({**_bearer(text), **rewriting}, scopes)
        assert set(answer.ok_response.headers_to_remove) & set(rewriting) == removed


async def test_an_owner_whose_keys_are_switched_off(service: Service, envoy: Envoy) -> None:  # rule 7
    """401 as soon as the policy has changed."""
    text, _ = await key(service)
    assert _outcome(await envoy.ask(_bearer(text))) == 200
    policy = OwnerPolicy(owner_id="acme", keys_enabled=False)
    await service.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["keys_enabled"]})
    answer = await envoy.ask(_bearer(text))
    assert _outcome(answer) == 401
    assert "CREDENTIAL_DISABLED" in answer.denied_response.body


async def test_rubbish_is_no_pass(envoy: Envoy) -> None:
    """An invalid check request is an error, which Envoy treats as a refusal; an empty one is 401."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await envoy.send(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _outcome(await envoy.send(b"")) == 401


async def test_a_fault_of_ours_is_no_pass(
    service: Service, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception anywhere in the decision is an RPC error, never an answer."""
    text, _ = await key(service)

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(service.app.access, "_answer", fail)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await envoy.ask(_bearer(text))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "a fault" not in str(caught.value.details())


async def test_what_cannot_be_known_is_503(
    service: Service, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time to retry after. "Invalid" would be wrong, and allowing would be unsafe."""
    text, _ = await key(service)
    decide = service.app.access.decide

    async def after_the_lease(*arguments: object) -> object:
        service.app.lease.end("this is a test")
        return await decide(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(service.app.access, "decide", after_the_lease)
    answer = await envoy.ask(_bearer(text))
    assert _outcome(answer) == 503
    headers = {option.header.key: option.header.value for option in answer.denied_response.headers}
    assert headers["retry-after"] == "1"
    assert "LEASE_OVER" in answer.denied_response.body


async def test_a_cold_key_is_awaited(service: Service, envoy: Envoy) -> None:
    """A key that is not cached is looked up; concurrent requests share the lookup."""
    text, _ = await key(service, "a")
    await envoy.ask({})  # its own key is no longer cold
    runs = service.app.hasher.runs
    answers = await asyncio.gather(*(envoy.ask(_bearer(text), "a") for _ in range(20)))
    assert [_outcome(answer) for answer in answers] == [200] * 20
    assert service.app.hasher.runs == runs + 1


@pytest.mark.parametrize(
    ("address", "kept"),
    [("192.0.2.9", "192.0.2.9"), ("2001:DB8::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("x\0y", "")],
)
async def test_the_last_use_has_an_address_or_none(
    service: Service, envoy: Envoy, address: str, kept: str
) -> None:  # rule 23
    """An address is stored in canonical form; an invalid one is not, and the other writes still succeed."""
    text, key_id = await key(service)
    await envoy.ask(_bearer(text), address=address)
    await service.flush()
    assert (await service.admin.GetKey(key_id=key_id)).last_use_ip == kept


# The address that connected, its x-forwarded-for, and the client's address.
BEHIND = [
    ("10.0.0.7", "203.0.113.9, 198.51.100.2, 10.0.0.7", "198.51.100.2"),
    ("10.0.0.7", "2001:db8::1", "2001:db8::1"),
    ("10.0.0.7", "rubbish", "10.0.0.7"),
    ("192.0.2.1", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
]


@pytest.mark.parametrize(("address", "forwarded", "kept"), BEHIND)
async def test_a_client_behind_more_proxies(
    database_url: str, clock: Clock, address: str, forwarded: str, kept: str
) -> None:  # rules 23, 24
    """The header of a trusted proxy counts, so that a device has its user's address."""
    async with serving(database_url, clock, trusted_proxies=(ip_network("10.0.0.0/8"),)) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        opened = await service.admin.CreateSession(owner_id="alice", ip_address="192.0.2.77")
        clock.advance(seconds=1)
        shown = {**_bearer(opened.session_token), "x-forwarded-for": forwarded}
        assert _outcome(await envoy.ask(shown, address=address)) == 200
        await service.flush()
        session = await service.admin.GetSession(session_id=opened.session.session_id)
        assert session.ip_address == kept


async def test_a_session_from_a_cookie(database_url: str, clock: Clock) -> None:
    """With a configured cookie: the other cookies are forwarded, and a use keeps the session alive."""
    async with serving(database_url, clock, gateway_credentials="cookie:sid,bearer") as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        opened = await service.admin.CreateSession(owner_id="alice", scopes=["a"])
        cookies = {"cookie": f"x=1; sid={opened.session_token}; y=2", "user-agent": "curl/8.0"}
        answer = await envoy.ask(cookies, "a")
        assert _set(answer) == {
            "x-auth-session-id": opened.session.session_id,
            "x-auth-owner-id": "alice",
            "x-auth-scopes": "a",
            "x-auth-credential-type": "session",
            "cookie": "x=1; y=2",
        }
        answer = await envoy.ask({"cookie": f"sid={opened.session_token}"}, "a")
        assert set(answer.ok_response.headers_to_remove) == {"x-auth-key-id", "cookie"}
        await service.admin.RevokeSession(session_id=opened.session.session_id)
        assert _outcome(await envoy.ask(cookies, "a")) == 401  # rule 25
        assert _outcome(await envoy.ask({"x-api-key": opened.session_token}, "a")) == 401


async def test_two_cookies_of_one_name(database_url: str, clock: Clock) -> None:
    """The valid one counts; two valid ones are refused, whatever their scopes."""
    async with serving(database_url, clock, gateway_credentials="cookie:sid") as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])

        async def session(*scopes: str, owner_id: str = "alice") -> tuple[str, str]:
            opened = await service.admin.CreateSession(owner_id=owner_id, scopes=scopes)
            return opened.session_token, opened.session.session_id

        revoked, revoked_id = await session("a")
        await service.admin.RevokeSession(session_id=revoked_id)
        live, live_id = await session("a")
        weak, _ = await session("b")
        other, _ = await session("a", owner_id="other")
        unknown = "authsvc_session_" + "0" * 63

        async def ask(*tokens: str) -> CheckResponse:
            cookies = ["x=1,2", *(f"sid={token}" for token in tokens), "y=3"]
            return await envoy.ask({"cookie": "; ".join(cookies)}, "a")

        for _ in ("cold", "warm"):
            for old in (revoked, unknown, "rubbish", ""):
                for tokens in ((old, live), (live, old)):
                    told = _set(await ask(*tokens))
                    assert (told["x-auth-session-id"], told["cookie"]) == (live_id, "x=1,2; y=3")
                assert _reason(await ask(old, weak)) == "SCOPE_MISSING"
            assert _set(await ask("x", "y", "z", live))["x-auth-session-id"] == live_id
            for several in ((live, other), (live, weak), (weak, live), ("w", "x", "y", "z", live)):
                assert _reason(await ask(*several)) == "CREDENTIAL_AMBIGUOUS"
            assert _reason(await ask(unknown, revoked)) == "CREDENTIAL_REVOKED"
            assert _reason(await ask(unknown, "rubbish")) == "CREDENTIAL_INVALID"
            assert _reason(await ask("", "")) == "CREDENTIAL_MISSING"


async def test_the_cookie_that_was_judged_is_kept_alone(database_url: str, clock: Clock) -> None:
    """An upstream that needs the credential does not have to choose between several."""
    async with serving(
        database_url, clock, gateway_credentials="cookie:sid", gateway_keep_credential=True
    ) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        live = (await service.admin.CreateSession(owner_id="alice")).session_token
        told = _set(await envoy.ask({"cookie": f"sid=old; a=1,2; sid={live}; b=3"}))
        assert told["cookie"] == f"a=1,2; sid={live}; b=3"
        assert "cookie" not in _set(await envoy.ask({"cookie": f"a=1,2; sid={live}; b=3"}))


async def test_a_grpc_library_is_no_device(database_url: str, clock: Clock) -> None:
    """A gRPC call does not change the device of a session, and its address is stored in canonical form."""
    async with serving(database_url, clock) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        opened = await service.admin.CreateSession(owner_id="alice", user_agent="Orders/2.1")
        clock.advance(seconds=1)
        shown = {
            **_bearer(opened.session_token),
            "user-agent": "grpc-python/1.80.0 grpc-c/50.0.0 (linux; chttp2)",
        }
        assert _outcome(await envoy.ask(shown, address="::ffff:203.0.113.7")) == 200
        await service.flush()
        session = await service.admin.GetSession(session_id=opened.session.session_id)
        assert (session.device.user_agent, session.ip_address) == ("Orders/2.1", "203.0.113.7")


async def test_the_credential_may_be_kept(database_url: str, clock: Clock) -> None:
    """For an upstream that needs it."""
    async with serving(database_url, clock, gateway_keep_credential=True) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        text, _ = await key(service)
        answer = await envoy.ask(_bearer(text))
        assert list(answer.ok_response.headers_to_remove) == ["x-auth-session-id"]


_TABLE = """
[[route]]
path = "/health"
public = true
[[route]]
methods = ["GET"]
path = "/orders/**"
scopes = ["orders:read"]
[[route]]
path = "/login"
public = true
"""


async def test_the_route_table(database_url: str, clock: Clock, tmp_path: Path) -> None:
    """By path and method; scopes required by the proxy are added; what the table does not name is refused."""
    file = tmp_path / "routes.toml"
    await asyncio.to_thread(file.write_text, _TABLE)
    async with serving(database_url, clock, routes=file) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        reader, _ = await key(service, "orders:read")
        empty, _ = await key(service)
        ask = envoy.ask
        assert _outcome(await ask({}, path="/health?x=y")) == 200
        assert _outcome(await ask({}, path="/health/../orders/1")) == 403
        assert _outcome(await ask(_bearer(reader), path="/orders/1")) == 200
        assert _outcome(await ask(_bearer(reader), method="POST", path="/orders/1")) == 403
        assert _outcome(await ask(_bearer(empty), path="/orders/1")) == 403
        assert _outcome(await ask({}, path="/orders/1")) == 401
        assert _outcome(await ask(_bearer(reader), path="/other")) == 403
        assert _outcome(await ask(_bearer(reader), "orders:write", path="/orders/1")) == 403
        assert _outcome(await ask({}, "orders:read", path="/health")) == 401
        # An upstream that follows these would serve another request than the one that was checked.
        answer = await ask({**_bearer(reader), "x-http-method-override": "DELETE"}, path="/orders/1")
        assert "x-http-method-override" in answer.ok_response.headers_to_remove
        # Public: no identity and none of our credentials; a password of the upstream is forwarded.
        answer = await ask(_bearer(reader), path="/login")
        assert _set(answer) == {}
        assert set(answer.ok_response.headers_to_remove) == {*NAMES, "authorization"}
        assert not answer.HasField("dynamic_metadata")
        # Nor one that was sent twice.
        answer = await ask({"x-api-key": f"{reader},{reader}"}, path="/login")
        assert set(answer.ok_response.headers_to_remove) == {*NAMES, "x-api-key"}
        answer = await ask({"authorization": f"Bearer x, Bearer {reader}"}, path="/login")
        assert set(answer.ok_response.headers_to_remove) == {*NAMES, "authorization"}
        answer = await ask({"authorization": "Basic dXNlcjpwYXNzd29yZA=="}, path="/login")
        assert set(answer.ok_response.headers_to_remove) == set(NAMES)


async def test_a_path_with_two_readings_has_no_route(service: Service, envoy: Envoy) -> None:
    """Also without a table, for any credential and any scopes that the proxy requires."""
    text, _ = await key(service, "a")
    for scopes in (None, "a"):
        for path in ("/orders;x=1", "/x/..;/orders", "/x/%2e%2e/orders", "/x%2f..%2forders?y"):
            assert _reason(await envoy.ask(_bearer(text), scopes, path=path)) == "ROUTE_NOT_PERMITTED"
        assert _outcome(await envoy.ask(_bearer(text), scopes, path="/orders?x=;&y=/../")) == 200


async def test_the_table_of_now_is_used(database_url: str, clock: Clock, tmp_path: Path) -> None:
    """As soon as it is reloaded."""
    file = tmp_path / "routes.toml"
    await asyncio.to_thread(file.write_text, _TABLE)
    async with serving(database_url, clock, routes=file) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        assert _outcome(await envoy.ask({}, path="/health")) == 200
        await asyncio.to_thread(file.write_text, _TABLE.replace("/health", "/healthz"))
        assert service.app.routes is not None
        await service.app.routes.look()
        assert _outcome(await envoy.ask({}, path="/health")) == 403
        assert _outcome(await envoy.ask({}, path="/healthz")) == 200


def test_our_messages_stand_beside_envoys() -> None:
    """Programs that load Envoy's own protos can load ours: no names conflict."""
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("envoy.service.auth.v3.CheckRequest")


async def test_answers_are_counted(service: Service, envoy: Envoy) -> None:
    """By outcome, in the metrics."""
    text, _ = await key(service)
    await envoy.ask(_bearer(text))
    await envoy.ask({})
    await envoy.ask({})

    def count(reason: str) -> float | None:
        return service.app.metrics.registry.get_sample_value(
            "authsvc_gateway_answers_total", {"reason": reason}
        )

    assert (count("ALLOWED"), count("CREDENTIAL_MISSING")) == (1, 2)
