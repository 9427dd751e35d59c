"""ReportLeakedKeys: anybody may report, nobody learns anything, and what is real is revoked."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from authsvc.entrance.limits import MAX_PER_STRANGER, MAX_STRANGERS, Limits
from authsvc.model.caller import STRANGER
from authsvc.model.errors import Overloaded
from authsvc.model.key_string import SESSION, TAIL_LENGTH, KeyMint
from authsvc.model.rate import Rate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.test_access_table import reason_of

PLACE = "https://git.example.org/acme/app/blob/main/settings.py#L3"
LEAKED = resources_pb2.REVOKE_CAUSE_LEAKED
REVOKED = resources_pb2.KEY_STATE_REVOKED


def stranger(service: Service, **headers: str) -> Client:
    return Client(service.channel, None, **headers)


async def key(service: Service, owner_id: str = "acme", **fields: Any) -> Any:
    return await service.admin.CreateKey(owner_id=owner_id, display_name="x", **fields)


async def report(caller: Client, *texts: str, place: str = "") -> bytes:
    """Report these strings; return the answer in bytes."""
    answer = await caller.ReportLeakedKeys(leaks=[{"key_string": text, "place": place} for text in texts])
    serialized: bytes = answer.SerializeToString()
    return serialized


def wrong_secret(service: Service, key_string: str) -> str:
    """Return a string with the same prefix and another secret, which has a good tag."""
    mint = service.app.mint
    prefix = key_string[:-TAIL_LENGTH]
    body = prefix + "A" * 43
    return body + mint._tag(body)


async def test_a_leaked_key_is_revoked_for_anybody(service: Service) -> None:
    """The key and its event say why, and where it was found. A repeated report changes nothing."""
    made = await key(service)
    for _ in range(2):
        await report(stranger(service), f"  {made.key_string}\n", place=PLACE)
        verdict = await service.admin.VerifyKey(key_string=made.key_string)
        assert verdict.code == resources_pb2.VERDICT_CODE_REVOKED
    found = await service.admin.GetKey(key_id=made.key.key_id)
    assert (found.state, found.revoke_cause, found.revoker_id) == (REVOKED, LEAKED, "anonymous")
    assert found.revoke_reason == f"leaked: {PLACE}"
    listed = (await service.admin.ListKeys(owner_id="acme")).keys
    assert [each.revoke_cause for each in listed] == [LEAKED]
    events = (
        await service.admin.ListAuditEvents(owner_id="acme", filter={"actions": ["AUDIT_ACTION_KEY_REVOKED"]})
    ).events
    assert [(event.actor_id, event.target_id) for event in events] == [("anonymous", made.key.key_id)]
    assert events[0].details["cause"] == "LEAKED"
    assert events[0].details["place"] == PLACE
    assert events[0].client_ip


async def test_other_revocations_have_another_cause(service: Service) -> None:
    made = await key(service)
    assert made.key.revoke_cause == resources_pb2.REVOKE_CAUSE_UNSPECIFIED
    revoked = await service.admin.RevokeKey(key_id=made.key.key_id, reason="leaked: no")
    assert revoked.revoke_cause == resources_pb2.REVOKE_CAUSE_REQUESTED
    await report(stranger(service), made.key_string, place=PLACE)
    after = await service.admin.GetKey(key_id=made.key.key_id)
    assert after == revoked  # rule 17


async def test_a_reporter_with_a_credential_is_named(service: Service) -> None:
    """It needs no scope, and acts on keys of every owner by this alone."""
    reporter, made = await key(service, "globex"), await key(service)
    await report(service.as_caller(reporter.key_string), made.key_string)
    found = await service.admin.GetKey(key_id=made.key.key_id)
    assert (found.revoker_id, found.revoke_reason) == (reporter.key.key_id, "leaked")


async def test_a_wrong_credential_is_refused(service: Service) -> None:
    made = await key(service)
    for credential in ("x", service.app.mint.mint("authsvc", "live").text):
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await report(service.as_caller(credential), made.key_string)
    assert (await service.admin.VerifyKey(key_string=made.key_string)).valid


async def test_whatever_is_reported_is_answered_alike(service: Service) -> None:
    """The same bytes and the same trailers, with and without a credential: nothing tells what there is."""
    active, revoked, deleted = [await key(service) for _ in range(3)]
    expiring = await key(service, ttl=timedelta(seconds=60))
    for each in (revoked, deleted):
        await service.admin.RevokeKey(key_id=each.key.key_id)
    await service.admin.DeleteKey(key_id=deleted.key.key_id)
    session = await service.admin.CreateSession(owner_id="acme")
    service.clock.advance(seconds=61)
    texts = [
        "",
        "x",
        "\0" * 100,
        "k" * 10_000,
        active.key_string[:-1],
        active.key_string.replace("live", "test"),
        wrong_secret(service, active.key_string),
        KeyMint(b"another tag key").mint("authsvc", "live").text,
        service.app.mint.mint("authsvc", "live").text,
        service.app.mint.mint("authsvc", SESSION).text,
        active.key_string,
        active.key_string,
        revoked.key_string,
        expiring.key_string,
        deleted.key_string,
        session.session_token,
    ]
    seen = set()
    call: Any = service.channel.unary_unary(
        "/authsvc.v1.KeyService/ReportLeakedKeys",
        request_serializer=pb.ReportLeakedKeysRequest.SerializeToString,
    )
    for number, text in enumerate([*texts, *texts[-4:]]):
        request = pb.ReportLeakedKeysRequest(leaks=[pb.LeakedKey(key_string=text, place=f"{number}")])
        answered = call(request, timeout=30)
        answer = await answered
        trailers = [name for name, _ in await answered.trailing_metadata() or ()]
        headers = [name for name, _ in await answered.initial_metadata() or ()]
        seen.add((answer, tuple(trailers), tuple(headers), await answered.code(), await answered.details()))
    assert len(seen) == 1


async def test_a_wrong_secret_revokes_nothing(service: Service) -> None:  # rule 21
    """Nor does a prefix, nor a string with one character changed. The tag alone refuses most of them."""
    made = await key(service)
    text = made.key_string
    runs = service.app.hasher.runs
    await report(stranger(service), text[:-TAIL_LENGTH], text[:-1] + ("a" if text[-1] != "a" else "b"))
    assert service.app.hasher.runs == runs
    await report(stranger(service), wrong_secret(service, text))
    assert (await service.admin.VerifyKey(key_string=text)).valid


async def test_every_string_that_was_minted_waits_for_all_workers(service: Service) -> None:  # rule 15
    """Also if its key is revoked or deleted: an earlier call may not have waited to the end."""
    revoked, deleted = await key(service), await key(service)
    for each in (revoked, deleted):
        await service.admin.RevokeKey(key_id=each.key.key_id)
    await service.admin.DeleteKey(key_id=deleted.key.key_id)
    for text, entries in ((revoked.key_string, 1), (deleted.key_string, 1), ("x", 0)):
        for _ in range(2):
            before = service.app.holder.seq
            await report(stranger(service), text)
            assert service.app.holder.seq - before == entries


async def test_what_has_ended_is_nothing_new_but_for_an_expired_key(service: Service) -> None:
    """A later expiry would make an expired key work again."""
    expiring = await key(service, ttl=timedelta(seconds=60))
    scheduled = await key(service)
    await service.admin.RevokeKey(key_id=scheduled.key.key_id, revoke_in=timedelta(hours=1))
    service.clock.advance(seconds=61)
    await report(stranger(service), expiring.key_string, scheduled.key_string)
    for made in (expiring, scheduled):
        found = await service.admin.GetKey(key_id=made.key.key_id)
        assert (found.state, found.revoke_cause) == (REVOKED, LEAKED)
        assert found.revoke_time.ToDatetime(tzinfo=service.clock().tzinfo) == service.clock()


async def test_a_session_is_ended(service: Service) -> None:
    made = await service.admin.CreateSession(owner_id="u-1")
    await report(stranger(service), made.session_token, place=PLACE)
    verdict = await service.admin.VerifySession(session_token=made.session_token)
    assert verdict.code == resources_pb2.VERDICT_CODE_REVOKED
    filter_ = {"actions": ["AUDIT_ACTION_SESSION_REVOKED"]}
    [event] = (await service.admin.ListAuditEvents(owner_id="u-1", filter=filter_)).events
    assert (event.target_id, event.details["place"]) == (made.session.session_id, PLACE)


async def test_no_policy_and_no_last_administrator_prevents_it(service: Service) -> None:
    """Who has found the only administrator key could do everything. `authsvc bootstrap` makes another."""
    made = await key(service)
    await service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "key_managers": "KEY_MANAGERS_SESSIONS_ONLY", "keys_enabled": False},
        update_mask={"paths": ["key_managers", "keys_enabled"]},
    )
    await report(stranger(service), made.key_string, service.admin_key)
    with pytest.raises(grpc.aio.AioRpcError, match="was revoked"):
        await service.admin.GetKey(key_id=made.key.key_id)
    assert await service.app.keys.ensure_administrator() is not None


async def test_a_thousand_strings_of_which_one_is_broken(
    service: Service, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A key whose stored hash is damaged, and strings that are none, keep nothing else from being revoked."""
    caplog.set_level(logging.DEBUG)
    made = [await key(service, f"o-{number % 7}") for number in range(30)]
    broken = made[11]
    connection = await asyncpg.connect(database_url)
    try:
        query = "UPDATE authsvc.keys SET secret_hash = '$argon2id$cut' WHERE key_id = $1"
        await connection.execute(query, broken.key.key_id)
    finally:
        await connection.close()
    service.app.cache.clear()
    texts = [f"made up {number}" for number in range(1000)]
    for number, each in enumerate(made):
        texts[number * 33] = each.key_string
    assert await report(stranger(service), *texts, place=f"see {made[0].key_string}") == b""
    states = [(await service.admin.GetKey(key_id=each.key.key_id)).revoke_cause for each in made]
    assert states == [LEAKED if each is not broken else 0 for each in made]
    assert (service.app.leaks.reported, service.app.leaks.revoked) == (1000, 29)
    assert not [each for each in made if each.key_string in caplog.text]


async def test_lists_are_bounded(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="maximum is 1000") as refused:
        await report(stranger(service), *["x"] * 1001)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await report(stranger(service)) == b""
    assert await report(stranger(service), *["x"] * 1000, place="p" * 900) == b""


async def test_no_place_has_a_secret(service: Service, database_url: str) -> None:
    """The database keeps at most 400 characters of it, in one line, without secrets."""
    made, other = await key(service), await key(service)
    secret = made.key_string[-TAIL_LENGTH:]
    places = [
        f"https://example.org/?k={made.key_string}&x=1",
        made.key_string[:40] + "\u200b" + made.key_string[40:],
        made.key_string[:40] + "\n" + made.key_string[40:],
        other.key_string + " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "\0\u202e" + "long " * 1000,
    ]
    for place in places:
        each = await key(service)
        await report(stranger(service), each.key_string, place=place)
        found = await service.admin.GetKey(key_id=each.key.key_id)
        assert found.revoke_reason.startswith("leaked: ")
        assert len(found.revoke_reason) <= 500
        assert "\n" not in found.revoke_reason
    connection = await asyncpg.connect(database_url)
    try:
        kept = ""
        for table in ("keys", "audit_events", "notifications"):
            rows = await connection.fetch(f"SELECT t::text AS row FROM authsvc.{table} t")  # noqa: S608
            kept += "\n".join(row["row"] for row in rows)
    finally:
        await connection.close()
    for text in (secret[:20], secret[20:43], other.key_string[-TAIL_LENGTH:], "MfKQ9r8GKYqrTwjU"):
        assert text not in kept


async def test_a_flood_from_one_address_is_refused(database_url: str, clock: Clock) -> None:
    """Beyond the rate, and no other address with it. An owner's callers share one rate, too."""
    async with serving(
        database_url, clock, leak_report_limit=Rate(0.001, 2), trusted_proxies="127.0.0.0/8"
    ) as service:
        made = await key(service)
        first, second = (stranger(service, x_forwarded_for=f"203.0.113.{last}") for last in (1, 2))
        for _ in range(2):
            await report(first, "x")
        with pytest.raises(grpc.aio.AioRpcError, match="AUTHSVC_LEAK_REPORT_LIMIT") as refused:
            await report(first, made.key_string)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refused.value) == "RATE_LIMITED"
        tenant = service.as_caller((await key(service, "globex")).key_string)
        await report(tenant, "x")
        await report(tenant, "x")
        with pytest.raises(grpc.aio.AioRpcError, match="AUTHSVC_LEAK_REPORT_LIMIT"):
            await report(tenant, "x")
        await report(second, made.key_string)
        assert (await service.admin.GetKey(key_id=made.key.key_id)).revoke_cause == LEAKED


def test_reports_in_flight_are_bounded() -> None:
    """Of strangers, since their messages are read: few of one address, and not many of all."""
    limits = Limits(lambda: 0.0)

    def enter(last: int) -> str:
        return limits.enter(STRANGER._replace(client_ip=f"203.0.113.{last}"), is_open=True)

    held = [enter(number // MAX_PER_STRANGER) for number in range(MAX_STRANGERS)]
    for last in (0, 250):
        with pytest.raises(Overloaded, match="unknown callers"):
            enter(last)
    limits.leave(held.pop(0))
    limits.leave(held.pop())
    held += [enter(0), enter(250)]
    with pytest.raises(Overloaded):
        enter(0)
    for name in held:
        limits.leave(name)
    assert limits._strangers == 0


async def test_reports_leave_argon2_to_verification(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many strings are reported at once, two of them are proved at a time."""
    made = [await key(service) for _ in range(12)]
    service.app.cache.clear()
    hasher = service.app.hasher
    most, proved = 0, type(hasher).verify

    async def watched(self: Any, secret: str, secret_hash: str) -> bool:
        nonlocal most
        most = max(most, self.pending + 1)
        return await proved(self, secret, secret_hash)

    monkeypatch.setattr(type(hasher), "verify", watched)
    await asyncio.gather(*(report(service.admin, each.key_string) for each in made))
    assert 1 <= most <= 2


async def test_too_many_reports_at_once_are_refused(service: Service) -> None:
    leaks = service.app.leaks
    leaks._reports = leaks._max_reports
    with pytest.raises(grpc.aio.AioRpcError, match="too many reports") as refused:
        await report(stranger(service), "x")
    assert reason_of(refused.value) == "LEAK_REPORTS_FULL"
    leaks._reports = 0
    await report(stranger(service), "x")


async def test_contacts_and_webhooks_are_told(service: Service, database_url: str) -> None:
    """The outbox has `key.revoked`, with the cause and the place."""
    made = await key(service, technical_contacts=[{"name": "Ops", "email": "ops@example.org"}])
    await report(stranger(service), made.key_string, place=PLACE)
    connection = await asyncpg.connect(database_url)
    try:
        query = "SELECT details->>'cause', details->>'place' FROM authsvc.notifications WHERE type = $1"
        told = await connection.fetch(query, "key.revoked")
    finally:
        await connection.close()
    assert [tuple(row) for row in told] == [("LEAKED", PLACE)]
