"""DeriveToken and VerifyToken: whose a token is, what it may do, when it ends, and what is no token."""

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from joserfc.jwk import OKPKey

from authsvc.keys.token_keys import new_token_key
from authsvc.v1 import resources_pb2
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import make
from tests.rpc.test_update import update

ISSUER, ORDERS = "https://auth.example", "https://orders.example"
DERIVES = ["orders:read", "orders:write", "tokens:derive"]
PRECONDITION, DENIED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The file of the keys that sign."""
    file = tmp_path / "token.key"
    file.write_text(new_token_key())
    return file


@pytest.fixture
async def service(database_url: str, clock: Clock, key_file: Path) -> AsyncIterator[Service]:
    async with serving(database_url, clock, token_keys_file=key_file, token_issuer=ISSUER) as running:
        yield running


async def derive(client: Client, *scopes: str, **fields: Any) -> Any:
    """Return the answer with a token for ORDERS."""
    return await client.DeriveToken(**{"audience": ORDERS, "scopes": scopes, **fields})


async def derived(service: Service, **fields: Any) -> tuple[Any, str]:
    """Return a key that was just made, and a token of it with the scope orders:read."""
    made = await make(service, **{"scopes": DERIVES, **fields})
    return made, (await derive(service.as_caller(made.key_string), "orders:read")).token


async def verify(service: Service, token: str, /, client: Client | None = None, **fields: Any) -> Any:
    return await (client or service.admin).VerifyToken(**{"token": token, "audience": ORDERS, **fields})


async def code(service: Service, token: str, /, **fields: Any) -> str:
    verdict = await verify(service, token, **fields)
    assert verdict.valid == (verdict.code == resources_pb2.VERDICT_CODE_VALID)
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


def decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def header_of(token: str) -> dict[str, Any]:
    return decoded(token.split(".")[0])


def claims_of(token: str) -> dict[str, Any]:
    return decoded(token.split(".")[1])


def encoded(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


async def test_a_token_of_a_key(service: Service, clock: Clock) -> None:
    """It has the claims of RFC 9068, lasts 5 minutes, and is as valid as its key, from memory and not."""
    clock.advance(milliseconds=700)
    made = await make(service, scopes=DERIVES, annotations={"tier": "gold"})
    answer = await derive(service.as_caller(made.key_string), "orders:write", "orders:read")
    expire_time = (clock.now + timedelta(minutes=5)).replace(microsecond=0)
    assert answer.expire_time.ToDatetime(tzinfo=UTC) == expire_time
    assert claims_of(answer.token) == {
        "iss": ISSUER,
        "sub": "acme",
        "aud": ORDERS,
        "exp": int(expire_time.timestamp()),
        "iat": int(clock.now.timestamp()),
        "jti": answer.token_id,
        "client_id": made.key.key_id,
        "scope": "orders:read orders:write",
        "owner_id": "acme",
        "key_id": made.key.key_id,
        "key_prefix": made.key.key_prefix,
    }
    for _ in range(2):
        verdict = await verify(service, f" {answer.token}\n", required_scopes=["orders:read"])
        assert (verdict.valid, verdict.key_id, verdict.session_id) == (True, made.key.key_id, "")
        assert (verdict.owner_id, verdict.token_id) == ("acme", answer.token_id)
        assert list(verdict.scopes) == ["orders:read", "orders:write"]
        assert verdict.expire_time == answer.expire_time
        assert dict(verdict.annotations) == {"tier": "gold"}
        service.app.cache.clear()
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).HasField("last_use_time")  # rule 23
    clock.advance(minutes=5)
    assert await code(service, answer.token) == "EXPIRED"


async def test_a_token_of_a_session(service: Service, clock: Clock) -> None:
    """It ends with the session, and with its idle timeout; its use is an activity."""
    opened = await service.admin.CreateSession(
        owner_id="acme", scopes=DERIVES, idle_timeout=Duration(seconds=120)
    )
    calls = service.as_caller(opened.session_token)
    answer = await derive(calls, "orders:read", lifetime=Duration(seconds=3600))
    assert answer.expire_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(seconds=120)
    assert claims_of(answer.token)["session_id"] == opened.session.session_id
    clock.advance(seconds=100)
    service.app.cache.clear()
    verdict = await verify(service, answer.token)
    assert (verdict.valid, verdict.key_id, verdict.session_id) == (True, "", opened.session.session_id)
    clock.advance(seconds=19)
    assert (await service.admin.VerifySession(session_token=opened.session_token)).valid
    other = (await derive(calls, "orders:read")).token
    await service.admin.RevokeSession(session_id=opened.session.session_id)
    assert await code(service, other) == "REVOKED"
    service.app.cache.clear()
    assert await code(service, other) == "REVOKED"


async def test_the_end_of_all_sessions_is_that_of_their_tokens(service: Service) -> None:
    opened = await service.admin.CreateSession(owner_id="acme", scopes=DERIVES)
    token = (await derive(service.as_caller(opened.session_token), "orders:read")).token
    assert await code(service, token) == "VALID"
    await service.admin.RevokeAllSessions(owner_id="acme")
    assert await code(service, token) == "REVOKED"


async def test_a_session_that_was_idle_has_no_tokens(service: Service, clock: Clock) -> None:
    """Activity up to the end of a token would have made the session last longer."""
    opened = await service.admin.CreateSession(
        owner_id="acme", scopes=DERIVES, idle_timeout=Duration(seconds=120)
    )
    answer = await derive(service.as_caller(opened.session_token), lifetime=Duration(seconds=3600))
    clock.advance(seconds=60)
    assert await code(service, answer.token) == "VALID"
    clock.advance(seconds=59)
    assert await code(service, answer.token) == "VALID"
    clock.advance(seconds=1)
    assert await code(service, answer.token) == "EXPIRED"
    assert (await service.admin.VerifySession(session_token=opened.session_token)).valid


async def test_no_token_outlives_its_key(service: Service, clock: Clock) -> None:
    """It ends with the expiry and with a scheduled revocation, also that of a rotation."""
    expire_time = Timestamp()
    expire_time.FromDatetime(clock.now + timedelta(seconds=90))
    made = await make(service, scopes=DERIVES, expire_time=expire_time)
    calls = service.as_caller(made.key_string)
    answer = await derive(calls, lifetime=Duration(seconds=3600))
    assert answer.expire_time == expire_time
    await service.admin.RotateKey(key_id=made.key.key_id, grace_period=Duration(seconds=60))
    answer = await derive(calls, lifetime=Duration(seconds=3600))
    assert answer.expire_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(seconds=60)
    clock.advance(seconds=60)
    assert await code(service, answer.token) == "REVOKED"


@pytest.mark.parametrize("seconds", [0.5, 3601, -1])
async def test_the_lifetime_is_bounded(service: Service, seconds: float) -> None:
    made = await make(service, scopes=DERIVES)
    lifetime = Duration()
    lifetime.FromTimedelta(timedelta(seconds=seconds))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await derive(service.as_caller(made.key_string), lifetime=lifetime)
    assert "lifetime" in refusal.fields


async def test_only_scopes_of_the_credential(service: Service) -> None:
    made = await make(service, scopes=DERIVES)
    calls = service.as_caller(made.key_string)
    with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
        await derive(calls, "orders:read", "orders:delete")
    with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
        await derive(calls, "full_access")
    plain = await make(service, scopes=["orders:read"])
    with refused(DENIED, "SCOPE_MISSING"):
        await derive(service.as_caller(plain.key_string), "orders:read")
    none = (await derive(calls)).token
    assert await code(service, none) == "VALID"
    assert await code(service, none, required_scopes=["orders:read"]) == "INSUFFICIENT_SCOPE"
    assert await code(service, none, any_of_scopes=["orders:read"]) == "INSUFFICIENT_SCOPE"


async def test_scopes_that_the_key_has_lost_are_lost(service: Service) -> None:
    """Those that it has got since are not in the token; of full_access remains what the key has."""
    made, token = await derived(service)
    asked = {"required_scopes": ["orders:read"]}
    assert await code(service, token, **asked) == "VALID"
    await update(service, made.key.key_id, "scopes", scopes=["orders:write", "tokens:derive"])
    assert await code(service, token, **asked) == "INSUFFICIENT_SCOPE"
    await update(service, made.key.key_id, "scopes", scopes=["full_access"])
    assert await code(service, token, **asked) == "VALID"
    assert await code(service, token, required_scopes=["orders:write"]) == "INSUFFICIENT_SCOPE"
    whole = (await derive(service.as_caller(made.key_string), "full_access")).token
    await update(service, made.key.key_id, "scopes", scopes=["orders:read"])
    assert list((await verify(service, whole)).scopes) == ["orders:read"]


async def test_a_token_is_no_credential_of_a_caller(service: Service) -> None:
    made = await make(service, scopes=["full_access"])
    token = (await derive(service.as_caller(made.key_string), "full_access")).token
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"):
        await service.as_caller(token).GetKey(key_id=made.key.key_id)
    assert not (await service.admin.VerifyKey(key_string=token)).valid
    assert await code(service, made.key_string) == "NOT_FOUND"


@pytest.mark.parametrize("warm", [True, False])
async def test_what_ends_a_key_ends_its_tokens(service: Service, clock: Clock, warm: bool) -> None:
    """From the answer on, whether or not the key is in memory."""

    async def expect(token: str, expected: str) -> None:
        if not warm:
            service.app.cache.clear()
        assert await code(service, token, client_ip="192.0.2.1") == expected

    made, token = await derived(service)
    await expect(token, "VALID")
    await service.admin.DisableKey(key_id=made.key.key_id)
    await expect(token, "DISABLED")
    await service.admin.EnableKey(key_id=made.key.key_id)
    await expect(token, "VALID")
    await update(service, made.key.key_id, "allowed_networks", allowed_networks=["203.0.113.0/24"])
    await expect(token, "ADDRESS_NOT_ALLOWED")
    assert await code(service, token, client_ip="203.0.113.7") == "VALID"
    await update(service, made.key.key_id, "allowed_networks")
    await set_policy(service, keys_enabled=False)
    await expect(token, "DISABLED")
    await set_policy(service, keys_enabled=True)
    await expect(token, "VALID")
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await expect(token, "REVOKED")
    await service.admin.DeleteKey(key_id=made.key.key_id)
    await expect(token, "NOT_FOUND")
    rotated, token = await derived(service)
    await expect(token, "VALID")
    await service.admin.RotateKey(key_id=rotated.key.key_id)
    await expect(token, "REVOKED")
    _, token = await derived(service)
    await service.admin.BatchRevokeKeys(owner_id="acme")
    await expect(token, "REVOKED")


async def test_a_revocation_is_true_for_tokens_on_every_replica(
    service: Service, database_url: str, clock: Clock, key_file: Path
) -> None:  # rule 15
    """From its answer on, also where the key is in memory by its token only."""
    async with serving(database_url, clock, token_keys_file=key_file, token_issuer=ISSUER) as other:
        for _ in range(5):
            made, token = await derived(service)
            there = other.as_caller(service.admin_key)
            assert await code(other, token, client=there) == "VALID"
            await service.admin.RevokeKey(key_id=made.key.key_id)
            assert await code(other, token, client=there) == "REVOKED"


async def test_another_owner_is_told_nothing(service: Service) -> None:  # rule 19
    """A verifier of a tenant knows tokens of its own owner only."""
    _, token = await derived(service)
    own, other = [
        service.as_caller((await make(service, owner, scopes=["keys:verify"])).key_string)
        for owner in ("acme", "globex")
    ]
    for _ in range(2):
        assert await code(service, token, client=own) == "VALID"
        verdict = await verify(service, token, client=other)
        assert str(verdict) == "code: VERDICT_CODE_NOT_FOUND\n"
        service.app.cache.clear()


async def test_a_key_string_is_proved_all_the_same(service: Service) -> None:  # rule 21
    """What a token has brought into memory says nothing about key strings, right or wrong."""
    made, token = await derived(service)
    wrong = await make(service)
    # A string with a right tag, and the prefix of the key.
    mint = service.app.mint
    body = made.key.key_prefix + wrong.key_string[-51:-8]
    forged = body + mint._tag(body)
    service.app.cache.clear()
    assert await code(service, token) == "VALID"
    assert not (await service.admin.VerifyKey(key_string=forged)).valid
    assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
    assert not (await service.admin.VerifyKey(key_string=forged)).valid
    assert await code(service, token) == "VALID"


async def test_only_who_presents_a_credential(database_url: str, clock: Clock, key_file: Path) -> None:
    async with serving(
        database_url,
        clock,
        token_keys_file=key_file,
        token_issuer=ISSUER,
        anonymous_scopes="tokens:derive",
    ) as service:
        with refused(PRECONDITION, "CREDENTIAL_REQUIRED"):
            await derive(Client(service.channel, None))


async def test_a_token_shows_no_digest(service: Service) -> None:
    """The digest of a weak string would tell the string to whoever sees the token."""
    text = secrets.token_urlsafe(32)
    key_hash = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    await service.admin.CreateKey(
        owner_id="acme", display_name="n", scopes=["tokens:derive"], key_hash=key_hash
    )
    with refused(PRECONDITION, "KEY_HAS_NO_PREFIX"):
        await derive(service.as_caller(text))


async def test_without_keys(database_url: str, clock: Clock) -> None:
    async with serving(database_url, clock) as service:
        with refused(PRECONDITION, "TOKENS_NOT_ENABLED"):
            await derive(service.admin)
        with refused(PRECONDITION, "TOKENS_NOT_ENABLED"):
            await verify(service, "x")


@pytest.mark.parametrize("audience", ["", "a b", "x" * 256, "é"])
async def test_an_audience_is_required(service: Service, audience: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await derive(service.admin, audience=audience)
    assert "audience" in refusal.fields


Forge = Callable[[dict[str, Any], dict[str, Any], str, OKPKey], str]


def _signed(header: dict[str, Any], claims: Mapping[str, Any], key: OKPKey) -> str:
    text = f"{encoded(header)}.{encoded(claims)}"
    private: Any = key.private_key
    return f"{text}.{urlsafe_b64encode(private.sign(text.encode())).rstrip(b'=').decode()}"


def _with_public_key(header: dict[str, Any], claims: dict[str, Any], _: str, key: OKPKey) -> str:
    """HS256, with the public key as the secret."""
    text = f"{encoded({**header, 'alg': 'HS256'})}.{encoded(claims)}"
    mac = hmac.digest(key.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _other_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


def _changed(token: str, part: int, change: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


# How an attacker makes a token of a valid one: from its header, its claims, its text, and the key of the
# service. No attacker has the key: those that use it show that the signature is not all that counts.
FORGERIES: dict[str, Forge] = {
    "no algorithm": lambda h, c, t, k: f"{encoded({**h, 'alg': 'none'})}.{encoded(c)}.",
    "no algorithm, signed": lambda h, c, t, k: _signed({**h, "alg": "none"}, c, k),
    "no signature": lambda h, c, t, k: t.rpartition(".")[0] + ".",
    "no third part": lambda h, c, t, k: t.rpartition(".")[0],
    "a fourth part": lambda h, c, t, k: t + ".x",
    "signed with the public key": _with_public_key,
    "another type": lambda h, c, t, k: _signed({**h, "typ": "JWT"}, c, k),
    "no type": lambda h, c, t, k: _signed({"alg": h["alg"], "kid": h["kid"]}, c, k),
    "another algorithm": lambda h, c, t, k: _signed({**h, "alg": "Ed25519"}, c, k),
    "no key id": lambda h, c, t, k: _signed({"alg": h["alg"], "typ": h["typ"]}, c, k),
    "the key id of another key": lambda h, c, t, k: _signed({**h, "kid": _other_key().thumbprint()}, c, k),
    "another key": lambda h, c, t, k: _signed(h, c, _other_key()),
    "a key in the header": lambda h, c, t, k: _signed({**h, "jwk": k.as_dict(private=False)}, c, k),
    "more scopes": lambda h, c, t, k: _changed(t, 1, lambda _: encoded({**c, "scope": "full_access"})),
    "more time": lambda h, c, t, k: _changed(t, 1, lambda _: encoded({**c, "exp": c["exp"] + 9})),
    "another signature": lambda h, c, t, k: _changed(t, 2, lambda s: "A" * len(s)),
    "an empty signature": lambda h, c, t, k: _changed(t, 2, lambda _: ""),
    "padding": lambda h, c, t, k: t + "==",
    "another text of the signature": lambda h, c, t, k: (
        t[:-1] + chr(ord(t[-1]) + 1)  # The last character has bits that no byte has.
    ),
    "another issuer": lambda h, c, t, k: _signed(h, {**c, "iss": "https://evil.example"}, k),
    "another audience": lambda h, c, t, k: _signed(h, {**c, "aud": "https://evil.example"}, k),
    "a list of audiences": lambda h, c, t, k: _signed(h, {**c, "aud": [ORDERS]}, k),
    "another key's id": lambda h, c, t, k: _signed(h, {**c, "key_id": "key_x"}, k),
    "another owner": lambda h, c, t, k: _signed(h, {**c, "owner_id": "globex"}, k),
    "a session instead": lambda h, c, t, k: _signed(
        h, {n: v for n, v in c.items() if n != "key_id"} | {"session_id": c["key_id"]}, k
    ),
    "a prefix that is unknown": lambda h, c, t, k: _signed(h, {**c, "key_prefix": "a_live_" + "0" * 12}, k),
    "no prefix": lambda h, c, t, k: _signed(h, {n: v for n, v in c.items() if n != "key_prefix"}, k),
    "no end": lambda h, c, t, k: _signed(h, {n: v for n, v in c.items() if n != "exp"}, k),
    "an end that is a text": lambda h, c, t, k: _signed(h, {**c, "exp": "9999999999"}, k),
    "an end beyond the calendar": lambda h, c, t, k: _signed(h, {**c, "exp": 10**20}, k),
    "no object": lambda h, c, t, k: _signed(h, [c], k),  # type: ignore[arg-type]
    "not ASCII": lambda h, c, t, k: t + "é",
    "NUL": lambda h, c, t, k: t.replace(".", "\0"),
    "very long": lambda h, c, t, k: t + "A" * 100_000,
    "nothing": lambda h, c, t, k: "",
    "dots": lambda h, c, t, k: "..",
}


async def test_what_is_no_token(service: Service, key_file: Path) -> None:
    """All forgeries are NOT_FOUND, and tell nothing; most never reach memory."""
    _, token = await derived(service)
    key, header = OKPKey.import_key(key_file.read_bytes()), header_of(token)  # noqa: ASYNC240 - a small file
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": key.thumbprint()}
    assert await code(service, _signed(header, claims_of(token), key)) == "VALID"
    for warm in (True, False):
        for name, forge in FORGERIES.items():
            if not warm:
                service.app.cache.clear()
            forged = forge(header, claims_of(token), token, key)
            assert str(await verify(service, forged)) == "code: VERDICT_CODE_NOT_FOUND\n", name
    assert await code(service, token, audience="https://mail.example") == "NOT_FOUND"
    assert await code(service, token, audience=f"{ORDERS}/") == "NOT_FOUND"


async def test_an_end_is_told_only_with_the_right_signature(service: Service, clock: Clock) -> None:
    _, token = await derived(service)
    clock.advance(minutes=6)
    assert await code(service, token) == "EXPIRED"
    assert await code(service, _changed(token, 2, lambda s: "A" * len(s))) == "NOT_FOUND"
    assert await code(service, token, audience="https://mail.example") == "NOT_FOUND"


async def test_keys_overlap(service: Service, key_file: Path) -> None:
    """A new key is published second, then signs; tokens of the old one are valid until it is removed."""

    async def token_after(content: str) -> str:
        key_file.write_text(content)  # noqa: ASYNC240 - a small file
        await service.app.reloaded_files[-1].look()
        return (await derived(service))[1]

    old, new = new_token_key(), new_token_key()
    tokens = [await token_after(content) for content in (old, f"{old}\n{new}", f"{new}\n{old}", "broken")]
    kids = [header_of(token)["kid"] for token in tokens]
    assert kids == [OKPKey.import_key(each).thumbprint() for each in (old, old, new, new)]
    assert [await code(service, token) for token in tokens] == ["VALID"] * 4
    await token_after(new)
    assert [await code(service, token) for token in tokens] == ["NOT_FOUND"] * 2 + ["VALID"] * 2


async def test_other_fields_take_no_token(service: Service) -> None:
    """A token is a secret: it is refused where none belongs, and not repeated."""
    _, token = await derived(service)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await make(service, description=f"my token is {token}")
    assert token[-20:] not in refusal.message


async def test_tokens_take_from_the_rate_limits_of_their_key(service: Service) -> None:
    """The units of a key and of its tokens are the same; nothing is taken by who only asks, or derives."""
    limit = resources_pb2.RateLimit(name="requests", limit=4)
    limit.period.seconds = 86_400
    made, token = await derived(service, rate_limits=[limit])
    asked = await verify(service, token, cost=0)
    assert (asked.valid, asked.rate_limits[0].remaining) == (True, 4)
    assert (await verify(service, token)).rate_limits[0].remaining == 3
    assert (await service.admin.VerifyKey(key_string=made.key_string, cost=2)).valid
    assert await code(service, token) == "VALID"
    refused_verdict = await verify(service, token)
    assert (refused_verdict.valid, refused_verdict.code) == (False, resources_pb2.VERDICT_CODE_RATE_LIMITED)
    assert refused_verdict.HasField("retry_after")
    assert not (await service.admin.VerifyKey(key_string=made.key_string)).valid
    other = (await derive(service.as_caller(made.key_string), "orders:read")).token
    assert await code(service, other) == "RATE_LIMITED"


async def test_tokens_take_from_the_credits_of_their_key(service: Service) -> None:
    """The credits of a key and of its tokens are the same."""
    made, token = await derived(service, credits={"remaining": 3})
    assert (await verify(service, token, cost=0)).credits_remaining == 3
    assert (await verify(service, token)).credits_remaining == 2
    assert (await service.admin.VerifyKey(key_string=made.key_string, cost=2)).valid
    refused_verdict = await verify(service, token)
    assert refused_verdict.code == resources_pb2.VERDICT_CODE_CREDITS_EXHAUSTED
    assert (refused_verdict.valid, refused_verdict.credits_remaining) == (False, 0)
