"""VerifyKey, BatchVerifyKeys, LookupKey."""

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.model.errors import Unavailable
from authsvc.store.pool import Database
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, eventually
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import code_of, make


async def test_a_good_key_tells_what_it_is(service: Service) -> None:  # rule 20
    """Key, owner, scopes, expiry and annotations."""
    made = await make(service, scopes=["b:c", "a"], annotations={"team": "x"}, ttl=Duration(seconds=60))
    for _ in ("cold", "warm"):
        verdict = await service.admin.VerifyKey(key_string=made.key_string, required_scopes=["a"])
        assert verdict == pb.VerifyKeyResponse(
            valid=True,
            code=resources_pb2.VERDICT_CODE_VALID,
            key_id=made.key.key_id,
            owner_id="acme",
            scopes=["a", "b:c"],
            expire_time=made.key.expire_time,
            annotations={"team": "x"},
        )


async def test_strangers_are_an_answer(service: Service) -> None:  # rule 20
    """Any invalid string gets NOT_FOUND in an OK answer, without the database and without argon2."""
    made = await make(service)
    assert await code_of(service, made.key_string) == "VALID"
    good = made.key_string
    strangers = [
        "",
        " ",
        "x" * 1_000_000,
        "\0",
        good + "\0",
        "ключ_live_" + "a" * 63,
        "١٢٣",
        good[:-1],
        good[1:],
        good + "a",
        f"{good[:30]} {good[30:]}",
        f"{good[:30]}\n{good[30:]}",
        good.replace("authsvc_", "other_"),
        good.replace("_live_", "_test_"),
        good.upper(),
        good[:-1] + ("a" if good[-1] != "a" else "b"),
        made.key.key_prefix,
        "authsvc_live_" + "0" * 63,
        "authsvc_session_" + "0" * 63,
        "_" * 78,
    ]
    before = service.app.database.checkouts, service.app.hasher.runs
    for stranger in strangers:
        verdict = await service.admin.VerifyKey(key_string=stranger)
        assert verdict == pb.VerifyKeyResponse(code=resources_pb2.VERDICT_CODE_NOT_FOUND), stranger[:100]
    assert (service.app.database.checkouts, service.app.hasher.runs) == before


@pytest.mark.parametrize("around", ["{}\n", " {}", "\t{}\r\n", "\u00a0{}\u3000"])
async def test_blanks_around_a_string_do_not_count(service: Service, around: str) -> None:
    """As in pasted strings: in every RPC that takes a string, warm and cold."""
    made = await make(service)
    pasted = around.format(made.key_string)
    service.app.cache.clear()
    assert await code_of(service, pasted) == "VALID"
    assert await code_of(service, pasted) == "VALID"
    assert (await service.admin.LookupKey(key_string=pasted)).key_id == made.key.key_id
    service.app.cache.clear()
    asked = [{"key_string": text} for text in (pasted, made.key_string, pasted)]
    answers = (await service.admin.BatchVerifyKeys(requests=asked)).responses
    assert [answer.valid for answer in answers] == [True] * 3
    opened = await service.admin.CreateSession(owner_id="acme")
    verdict = await service.admin.VerifySession(session_token=around.format(opened.session_token))
    assert verdict.session_id == opened.session.session_id


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
async def test_any_text_is_an_answer(service: Service, text: str) -> None:
    """No text makes verification fail."""
    assert (await service.admin.VerifyKey(key_string=text)).code == resources_pb2.VERDICT_CODE_NOT_FOUND


async def test_state_is_told_to_who_has_the_secret(service: Service, clock: Clock) -> None:  # rule 21
    """A wrong secret gets NOT_FOUND for any state of the key; the right one gets REVOKED or EXPIRED."""
    revoked, expiring = await make(service), await make(service, ttl=Duration(seconds=1))
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=1)
    assert await code_of(service, revoked.key_string) == "REVOKED"
    assert await code_of(service, expiring.key_string) == "EXPIRED"
    for made in (revoked, expiring):
        wrong = made.key.key_prefix + made.key_string[len(made.key.key_prefix) :][::-1]
        assert await code_of(service, wrong) == "NOT_FOUND"


async def test_no_scope_implies_another(service: Service) -> None:  # rule 22
    """Write does not grant read; full_access grants all; every required scope counts."""
    writer = await make(service, scopes=["x:write"])
    master = await make(service, scopes=["full_access"])

    async def code(key_string: str, *required: str) -> str:
        verdict = await service.admin.VerifyKey(key_string=key_string, required_scopes=required)
        return resources_pb2.VerdictCode.Name(verdict.code)

    assert await code(writer.key_string, "x:write") == "VERDICT_CODE_VALID"
    assert await code(writer.key_string, "x:read") == "VERDICT_CODE_INSUFFICIENT_SCOPE"
    assert await code(writer.key_string, "x:write", "x:read") == "VERDICT_CODE_INSUFFICIENT_SCOPE"
    assert await code(writer.key_string, "full_access") == "VERDICT_CODE_INSUFFICIENT_SCOPE"
    assert await code(master.key_string, "x:write", "x:read", "anything") == "VERDICT_CODE_VALID"


async def test_last_use(service: Service, clock: Clock) -> None:  # rule 23
    """The last successful verification, with the client's address; unset before it; failures do not count."""
    made = await make(service, scopes=["a"])

    async def last_use() -> tuple[bool, str, str]:
        await service.flush()
        key = await service.admin.GetKey(key_id=made.key.key_id)
        return key.HasField("last_use_time"), key.last_use_time.ToJsonString(), key.last_use_ip

    assert not (await last_use())[0]
    await service.admin.VerifyKey(key_string=made.key_string, required_scopes=["b"], client_ip="192.0.2.1")
    await service.admin.VerifyKey(key_string=made.key_string[::-1], client_ip="192.0.2.1")
    await service.admin.LookupKey(key_string=made.key_string)
    assert not (await last_use())[0]
    await service.admin.VerifyKey(key_string=made.key_string, client_ip="192.0.2.1")
    assert await last_use() == (True, "2026-11-21T12:00:00Z", "192.0.2.1")
    clock.advance(minutes=1)
    await service.admin.VerifyKey(key_string=made.key_string, client_ip="2001:db8::1")
    assert await last_use() == (True, "2026-11-21T12:01:00Z", "2001:db8::1")


async def test_last_use_never_moves_backwards(service: Service, clock: Clock) -> None:
    """A clock that was set back, or a slower process, cannot move it back."""
    made = await make(service)
    await service.admin.VerifyKey(key_string=made.key_string, client_ip="192.0.2.2")
    await service.flush()
    clock.advance(hours=-1)
    await service.admin.VerifyKey(key_string=made.key_string, client_ip="192.0.2.1")
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == "192.0.2.2"


async def test_last_use_is_written_behind(service: Service) -> None:
    """Verifications do not wait for the database; a periodic task writes."""
    made = await make(service)
    await service.admin.VerifyKey(key_string=made.key_string)
    before = service.app.database.checkouts
    for _ in range(20):
        await service.admin.VerifyKey(key_string=made.key_string)
    assert service.app.database.checkouts == before
    service.ticker.tick()
    await eventually(
        lambda: service.admin.GetKey(key_id=made.key.key_id), lambda key: key.HasField("last_use_time")
    )


async def test_a_callers_own_key_is_used_too(service: Service) -> None:  # rule 23
    """The key in the authorization header was verified, so its use is stored, with the peer's address."""
    caller = await make(service, scopes=["keys:read"])
    await service.as_caller(caller.key_string).ListKeys(owner_id="acme")
    await service.flush()
    assert (await service.admin.GetKey(key_id=caller.key.key_id)).last_use_ip == "127.0.0.1"


async def test_a_batch_answers_in_order(service: Service) -> None:
    """Warm, cold, invalid and repeated ones, each with its own scopes."""
    warm, cold = await make(service, scopes=["a"]), await make(service)
    assert await code_of(service, warm.key_string) == "VALID"
    requests = [
        pb.VerifyKeyRequest(key_string="rubbish"),
        pb.VerifyKeyRequest(key_string=cold.key_string),
        pb.VerifyKeyRequest(key_string=warm.key_string, required_scopes=["b"]),
        pb.VerifyKeyRequest(key_string=warm.key_string, required_scopes=["a"]),
        pb.VerifyKeyRequest(key_string=cold.key_string),
    ]
    answer = await service.admin.BatchVerifyKeys(requests=requests)
    codes = [resources_pb2.VerdictCode.Name(r.code).removeprefix("VERDICT_CODE_") for r in answer.responses]
    assert codes == ["NOT_FOUND", "VALID", "INSUFFICIENT_SCOPE", "VALID", "VALID"]
    assert answer.responses[1].key_id == cold.key.key_id


async def test_a_batch_has_its_bounds(service: Service) -> None:
    """Empty batches and more than 100 are refused; an invalid item is named."""
    for count in (0, 101):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.BatchVerifyKeys(requests=[pb.VerifyKeyRequest()] * count)
        assert list(refusal.fields) == ["requests"]
    requests = [pb.VerifyKeyRequest(), pb.VerifyKeyRequest(required_scopes=["a"] * 65)]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.BatchVerifyKeys(requests=requests)
    assert list(refusal.fields) == ["requests[1].required_scopes"]


@pytest.mark.parametrize(
    ("client_ip", "kept"),
    [("::ffff:203.0.113.7", "203.0.113.7"), ("2001:DB8::0001", "2001:db8::1"), ("testclient", "")],
)
async def test_an_address_never_fails_a_verification(
    service: Service, database_url: str, client_ip: str, kept: str
) -> None:
    """It is only shown: stored in one canonical form, and dropped when it is invalid."""
    made = await make(service)
    opened = await service.admin.CreateSession(owner_id="alice")
    assert (await service.admin.VerifyKey(key_string=made.key_string, client_ip=client_ip)).valid
    # Later, since the sign-in is an activity, too.
    service.clock.advance(seconds=1)
    assert (await service.admin.VerifySession(session_token=opened.session_token, client_ip=client_ip)).valid
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == kept
    key_id = made.key.key_id
    connection = await asyncpg.connect(database_url)
    try:
        stored = [
            await connection.fetchval("SELECT last_use_ip FROM authsvc.key_uses WHERE key_id = $1", key_id),
            await connection.fetchval("SELECT ip_address FROM authsvc.sessions"),
        ]
    finally:
        await connection.close()
    assert stored == [kept, kept]


async def test_which_key_is_a_leaked_string(service: Service) -> None:
    """An active, expired or revoked key is found by its string, and only by the correct one."""
    made = await make(service)
    assert (await service.admin.LookupKey(key_string=made.key_string)).key_id == made.key.key_id
    await service.admin.RevokeKey(key_id=made.key.key_id)
    found = await service.admin.LookupKey(key_string=made.key_string)
    assert found.state == resources_pb2.KEY_STATE_REVOKED
    for wrong in (made.key_string[:-1] + "!", made.key.key_prefix, "", "rubbish"):
        with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
            await service.admin.LookupKey(key_string=wrong)


@pytest.mark.parametrize("change", ["revoke", "update", "rotate", "revoke_batch", "revoke_owner", "delete"])
async def test_a_fill_under_way_is_not_admitted(
    service: Service, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A fill that read the old row before a change does not restore it after the change has returned."""
    made = await make(service, scopes=["a"])
    key_id = made.key.key_id
    if change == "delete":
        await service.admin.RevokeKey(key_id=key_id)
    read, go_on = asyncio.Event(), asyncio.Event()
    verify = service.app.hasher.verify

    async def paused(secret: str, secret_hash: str) -> bool:
        read.set()
        await go_on.wait()
        return await verify(secret, secret_hash)

    monkeypatch.setattr(service.app.hasher, "verify", paused)
    asked_before = asyncio.ensure_future(service.admin.VerifyKey(key_string=made.key_string))
    await read.wait()
    monkeypatch.setattr(service.app.hasher, "verify", verify)
    calls = {
        "revoke": lambda: service.admin.RevokeKey(key_id=key_id),
        "update": lambda: service.admin.UpdateKey(
            key=resources_pb2.Key(key_id=key_id), update_mask={"paths": ["scopes"]}
        ),
        "rotate": lambda: service.admin.RotateKey(key_id=key_id),
        "revoke_batch": lambda: service.admin.BatchRevokeKeys(key_ids=[key_id]),
        "revoke_owner": lambda: service.admin.BatchRevokeKeys(owner_id="acme"),
        "delete": lambda: service.admin.DeleteKey(key_id=key_id),
    }
    await calls[change]()
    asked_after = service.admin.VerifyKey(key_string=made.key_string, required_scopes=["a"])
    assert not (await asked_after).valid
    go_on.set()
    await asked_before
    assert not (await service.admin.VerifyKey(key_string=made.key_string, required_scopes=["a"])).valid


async def test_a_change_whose_answer_was_lost_is_known_all_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation commits, but its connection is lost: the caller gets an error, the feed has the change."""
    made = await make(service)
    assert await code_of(service, made.key_string) == "VALID"
    commit = Database.commit

    async def lost(*given: Any, **named: Any) -> object:
        await commit(*given, **named)
        raise Unavailable("lost", reason="DATABASE_UNAVAILABLE", retry_after=1)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "commit", lost)
        with refused(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            await service.admin.RevokeKey(key_id=made.key.key_id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ALREADY_REVOKED"):  # rule 17
        await service.admin.RevokeKey(key_id=made.key.key_id)
    assert await code_of(service, made.key_string) == "REVOKED"
