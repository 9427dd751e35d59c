"""ImportKeys, and CreateKey with a digest: strings that were made elsewhere work as keys of ours do."""

import asyncio
import hashlib
import secrets
from datetime import timedelta
from typing import Any

import asyncpg
import bcrypt
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.following import following
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_rate_limits import limit
from tests.rpc.test_revoke import code_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXISTS = grpc.StatusCode.ALREADY_EXISTS


def new_string(prefix: str = "tok-") -> str:
    """Return a string as another system makes them: 256 random bits, and no form of ours."""
    return prefix + secrets.token_urlsafe(32)


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def salted(text: str) -> str:
    return bcrypt.hashpw(text.encode(), bcrypt.gensalt(4)).decode()


def imported(text: str, **fields: Any) -> pb.ImportedKey:
    """Return the key of a string, by its digest."""
    return pb.ImportedKey(**{"hash": digest(text), "display_name": "Old", **fields})


def by_prefix(text: str, length: int = 12, **fields: Any) -> pb.ImportedKey:
    """Return the key of a string, by a salted hash and its first characters."""
    return imported(text, hash=salted(text), look_up_prefix=text[:length], **fields)


async def import_keys(
    caller: Client, *keys: pb.ImportedKey, owner_id: str = "acme", validate_only: bool = False
) -> list[pb.ImportKeyResult]:
    answer = await caller.ImportKeys(owner_id=owner_id, keys=keys, validate_only=validate_only)
    assert len(answer.results) == len(keys)
    return list(answer.results)


def reasons(results: list[pb.ImportKeyResult]) -> list[str]:
    return [each.error.reason for each in results]


async def test_an_imported_string_is_valid_from_the_answer_on(service: Service) -> None:
    """By its digest, and by a salted hash; the first time and from memory; and no other string is."""
    one, other = new_string(), new_string()
    before = [await code_of(service, text) for text in (one, other)]
    results = await import_keys(service.admin, imported(one, scopes=["orders:read"]), by_prefix(other))
    assert before == ["NOT_FOUND", "NOT_FOUND"]
    assert reasons(results) == ["", ""]
    for _ in range(2):
        assert [await code_of(service, text) for text in (one, other)] == ["VALID", "VALID"]
        for text in (one, other):
            assert await code_of(service, text[:-1] + ("A" if text[-1] != "A" else "B")) == "NOT_FOUND"
    verdict = await service.admin.VerifyKey(key_string=one, required_scopes=["orders:read"])
    assert (verdict.valid, verdict.key_id, verdict.owner_id) == (True, results[0].key_id, "acme")


async def test_what_is_shown_of_it(service: Service) -> None:
    """The look-up prefix, or the beginning of the digest; never a hash."""
    one, other = new_string(), new_string()
    results = await import_keys(service.admin, imported(one), by_prefix(other))
    keys = [await service.admin.GetKey(key_id=each.key_id) for each in results]
    assert [key.key_prefix for key in keys] == [digest(one)[:15], other[:12]]
    assert all(key.imported for key in keys)
    found = await service.admin.ListKeys(owner_id="acme", filter={"query": digest(one)[:15]})
    assert [key.key_id for key in found.keys] == [results[0].key_id]
    made = await service.admin.CreateKey(owner_id="acme", display_name="x")
    assert not made.key.imported


async def test_a_salted_hash_is_replaced_when_the_key_is_first_used(
    service: Service, database_url: str
) -> None:
    """By argon2id at the cost of secrets that others chose. A digest stays: the key is found by it."""
    one, other = new_string(), new_string()
    results = await import_keys(service.admin, by_prefix(one), imported(other))
    assert await code_of(service, one) == await code_of(service, other) == "VALID"
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT key_id, secret_hash, secret_origin FROM authsvc.keys")
    finally:
        await connection.close()
    stored = {row["key_id"]: row["secret_hash"] for row in rows if row["secret_origin"] == "imported"}
    assert stored[results[0].key_id].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert stored[results[1].key_id] == digest(other)
    service.app.cache.clear()
    assert await code_of(service, one) == "VALID"
    assert await code_of(service, one + "x") == "NOT_FOUND"


async def test_one_bad_key_does_not_stop_the_others(service: Service, clock: Clock) -> None:
    """Each has its own result, in order, which names the field and repeats no hash."""
    past = Timestamp()
    past.FromDatetime(clock.now - timedelta(days=1))
    good, again = new_string(), new_string()
    await import_keys(service.admin, imported(again))
    bad = [
        (imported(new_string(), hash="plaintext-secret"), "INVALID_FIELD", "hash"),
        (imported(new_string(), hash="sha256:abc"), "INVALID_FIELD", "hash"),
        (imported(new_string(), hash=""), "INVALID_FIELD", "hash"),
        (imported(new_string(), display_name=" "), "INVALID_FIELD", "display_name"),
        (imported(new_string(), look_up_prefix="abcdef"), "INVALID_FIELD", "look_up_prefix"),
        (by_prefix(new_string(), length=0), "INVALID_FIELD", "look_up_prefix"),
        (by_prefix(new_string(), length=7), "INVALID_FIELD", "look_up_prefix"),
        (by_prefix("a b c d e f g"), "INVALID_FIELD", "look_up_prefix"),
        (by_prefix("eg_live_" + "A" * 60, length=20), "INVALID_FIELD", "look_up_prefix"),
        (imported(new_string(), expire_time=past), "INVALID_FIELD", "expire_time"),
        (imported(new_string(), allowed_networks=["x"]), "INVALID_FIELD", "allowed_networks[0]"),
        (imported(new_string(), scopes=["UPPER"]), "INVALID_FIELD", "scopes[0]"),
        (imported(new_string(), rate_limits=[limit(), limit()]), "INVALID_FIELD", "rate_limits[1].name"),
        (imported(new_string(), rate_limits=[limit(seconds=1.5)]), "INVALID_FIELD", "rate_limits[0].period"),
        (imported(new_string(), rate_limits=[limit(units=0)]), "INVALID_FIELD", "rate_limits[0].limit"),
        (
            imported(new_string(), rate_limits=[limit(str(n)) for n in range(6)]),
            "INVALID_FIELD",
            "rate_limits",
        ),
        (
            imported(new_string(), hash="$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43),
            "INVALID_FIELD",
            "hash",
        ),
        (imported(good), "LOOK_UP_IN_USE", "hash"),
        (imported(again), "KEY_ALREADY_IMPORTED", "hash"),
    ]
    results = await import_keys(service.admin, imported(good), *(each for each, _, _ in bad))
    assert results[0].key_id
    assert not results[0].HasField("error")
    told = [(each.error.reason, each.error.field) for each in results[1:]]
    assert told == [(reason, field) for _, reason, field in bad]
    assert "plaintext-secret" not in str(results)
    assert await code_of(service, good) == "VALID"


async def test_a_dry_run_says_the_same_and_imports_nothing(service: Service) -> None:
    one, other = new_string(), new_string()
    await import_keys(service.admin, imported(other))
    keys = [imported(one), imported(other), imported(one), imported(one, hash="x")]
    dry = await import_keys(service.admin, *keys, validate_only=True)
    assert [each.key_id for each in dry][:1] == [""]
    assert await code_of(service, one) == "NOT_FOUND"
    assert reasons(dry) == ["", "KEY_ALREADY_IMPORTED", "LOOK_UP_IN_USE", "INVALID_FIELD"]
    assert reasons(await import_keys(service.admin, *keys)) == reasons(dry)


async def test_a_repeated_import_names_what_there_is(service: Service) -> None:
    """To its owner by its id. To another owner, nothing is told of whose it is."""
    text = new_string()
    [first] = await import_keys(service.admin, imported(text))
    [again] = await import_keys(service.admin, imported(text))
    assert (again.error.reason, again.key_id) == ("KEY_ALREADY_IMPORTED", first.key_id)
    assert again.error.message == (
        f"hash: key {first.key_id} of this owner has this hash; use that key, or issue a new key"
    )
    [other] = await import_keys(service.admin, imported(text), owner_id="globex")
    assert (other.error.reason, other.key_id) == ("LOOK_UP_IN_USE", "")
    assert other.error.message == "hash: this hash is in use; issue a new key"
    assert "acme" not in str(other)
    assert first.key_id not in str(other)
    assert (await service.admin.VerifyKey(key_string=text)).owner_id == "acme"


async def test_a_look_up_prefix_that_is_in_use(service: Service) -> None:
    """The error names the field, and says to use a longer one: it may be another string."""
    text = new_string()
    [first] = await import_keys(service.admin, by_prefix(text))
    [again] = await import_keys(service.admin, by_prefix(text[:12] + "x" * 30))
    [other] = await import_keys(service.admin, by_prefix(text), owner_id="globex")
    results = [again, other]
    assert reasons(results) == ["KEY_ALREADY_IMPORTED", "LOOK_UP_IN_USE"]
    assert {each.error.field for each in results} == {"look_up_prefix"}
    told = (
        f"look_up_prefix: key {first.key_id} of this owner has this prefix; use that key, or a longer prefix"
    )
    assert again.error.message == told
    assert other.error.message == (
        "look_up_prefix: this prefix is in use; use a longer one, or issue a new key"
    )
    assert first.key_id not in str(other)
    new = new_string()
    same = await import_keys(service.admin, by_prefix(new), by_prefix(new[:12] + "x" * 30))
    assert reasons(same) == ["", "LOOK_UP_IN_USE"]
    assert same[1].error.field == "look_up_prefix"
    assert "longer" in same[1].error.message


async def test_no_field_of_a_new_key_is_lost(service: Service, clock: Clock) -> None:
    """However it is created: by one statement, under locks, with a digest, or by an import."""
    expire_time = Timestamp()
    expire_time.FromDatetime(clock.now + timedelta(days=30))
    fields: dict[str, Any] = {
        "display_name": "Orders",
        "description": "of the shop",
        "scopes": ["orders:read", "orders:write"],
        "technical_contacts": [resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")],
        "annotations": {"team": "payments"},
        "expire_time": expire_time,
        "allowed_networks": ["192.0.2.0/24", "2001:db8::/48"],
        "rate_limits": [limit("all", 50), limit()],
    }
    of_keys = set(resources_pb2.Key.DESCRIPTOR.fields_by_name)
    assert set(fields) == of_keys & set(pb.ImportedKey.DESCRIPTOR.fields_by_name)
    # Keys are imported without credits: their account would be another insertion for each.
    given = {"remaining": 50, "refill": {"amount": 100, "day_of_month": 31}}
    assert {*fields, "credits", "owner_id"} == of_keys & set(pb.CreateKeyRequest.DESCRIPTOR.fields_by_name)
    few = {name: fields[name] for name in fields if name not in ("allowed_networks", "rate_limits")}
    made = [
        (await service.admin.CreateKey(owner_id="acme", **asked)).key.key_id
        for asked in (
            few,
            {**fields, "credits": given},
            {**fields, "credits": given, "key_hash": digest(new_string())},
        )
    ]
    results = await import_keys(
        service.admin, imported(new_string(), **fields), by_prefix(new_string(), **fields)
    )
    made += [each.key_id for each in results]
    for key_id, asked in zip(made, (few, fields, fields, fields, fields), strict=True):
        key = await service.admin.GetKey(key_id=key_id)
        assert {name: getattr(key, name) for name in asked} == asked
        assert (key.owner_id, key.create_time, key.update_time) == ("acme", key.create_time, key.create_time)
        assert key.creator_id
        # At its creation, and without a digest or with one.
        assert key.HasField("credits") == (key_id in made[1:3])
        assert key.credits.remaining == (50 if key_id in made[1:3] else 0)
    events = await service.admin.ListAuditEvents(
        owner_id="acme", filter={"actions": ["AUDIT_ACTION_KEY_IMPORTED"]}
    )
    for event in events.events:
        assert event.details["rate_limits"] == "all=50/1m requests=10/1m"


async def test_the_same_keys_imported_at_once(service: Service) -> None:
    """In any order: each is imported once, and the other calls say which key it is."""
    keys = [imported(new_string()) for _ in range(50)]
    calls = [import_keys(service.admin, *(keys if number % 2 else keys[::-1])) for number in range(4)]
    told = await asyncio.gather(*calls)
    for key in range(50):
        results = [each[key if number % 2 else 49 - key] for number, each in enumerate(told)]
        assert len({each.key_id for each in results}) == 1
        assert sorted(reasons(results)) == ["", *["KEY_ALREADY_IMPORTED"] * 3]


async def test_the_policy_and_the_scopes_of_the_caller_limit_it(service: Service) -> None:
    """As for CreateKey, but key by key: the limit of active keys lets as many in as there is room for."""
    await set_policy(
        service, "acme", max_active_keys=2, allowed_scopes=["orders:read"], contacts_required=False
    )
    keys = [imported(new_string(), scopes=["orders:write"]), *(imported(new_string()) for _ in range(3))]
    results = await import_keys(service.admin, *keys)
    assert reasons(results) == ["SCOPE_NOT_ALLOWED", "", "", "MAX_ACTIVE_KEYS"]
    manager = await service.admin.CreateKey(
        owner_id="globex", display_name="m", scopes=["keys:write", "keys:read"]
    )
    caller = service.as_caller(manager.key_string)
    told = await import_keys(
        caller,
        imported(new_string(), scopes=["orders:read"]),
        imported(new_string(), scopes=["keys:read"]),
        owner_id="globex",
    )
    assert reasons(told) == ["SCOPE_NOT_GRANTABLE", ""]
    with refused(grpc.StatusCode.PERMISSION_DENIED, "OWNER_NOT_PERMITTED"):
        await import_keys(caller, imported(new_string()))
    with refused(grpc.StatusCode.PERMISSION_DENIED, "OWNER_NOT_PERMITTED"):
        await import_keys(caller, imported(new_string()), validate_only=True)
    await set_policy(service, "acme", keys_enabled=False)
    assert reasons(await import_keys(service.admin, imported(new_string()))) == ["API_KEYS_NOT_ENABLED"]


async def test_only_the_platform_imports_salted_hashes(service: Service) -> None:
    """A tenant could otherwise have strings of others proved, at its cost: all JWTs begin alike."""
    manager = await service.admin.CreateKey(owner_id="acme", display_name="m", scopes=["full_access"])
    caller = service.as_caller(manager.key_string)
    texts = [new_string("eyJhbGciOiJI"), new_string()]
    keys = [by_prefix(texts[0]), imported(texts[1])]
    for validate_only in (True, False):
        told = await import_keys(caller, *keys, validate_only=validate_only)
        assert reasons(told) == ["PLATFORM_ONLY", ""]
    assert [await code_of(service, text) for text in texts] == ["NOT_FOUND", "VALID"]


async def test_a_thousand_at_most(service: Service) -> None:
    keys = [imported(new_string()) for _ in range(1001)]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.ImportKeys(owner_id="acme", keys=keys)
    assert set(refusal.fields) == {"keys"}
    results = await import_keys(service.admin, *keys[1:])
    assert reasons(results) == [""] * 1000
    events = await service.admin.ListAuditEvents(
        owner_id="acme", filter={"actions": ["AUDIT_ACTION_KEY_IMPORTED"]}, page_size=1000
    )
    assert {event.target_id for event in events.events} == {each.key_id for each in results}
    assert await import_keys(service.admin) == []


async def test_it_is_changed_and_ended_like_any_other(service: Service) -> None:
    """Disabled, enabled, reported, rotated into a minted key, revoked and deleted, warm or cold."""
    texts = [new_string() for _ in range(3)]
    results = await import_keys(service.admin, imported(texts[0]), by_prefix(texts[1]), by_prefix(texts[2]))
    for text, each in zip(texts[:2], results[:2], strict=True):
        assert await code_of(service, text) == "VALID"
        await service.admin.DisableKey(key_id=each.key_id)
        assert await code_of(service, text) == "DISABLED"
        await service.admin.EnableKey(key_id=each.key_id)
        assert await code_of(service, text) == "VALID"
        assert (await service.admin.LookupKey(key_string=text)).key_id == each.key_id
        await service.admin.RevokeKey(key_id=each.key_id)
        assert await code_of(service, text) == "REVOKED"
        await service.admin.DeleteKey(key_id=each.key_id)
        assert await code_of(service, text) == "NOT_FOUND"
    rotated = await service.admin.RotateKey(key_id=results[2].key_id, grace_period=Duration(seconds=60))
    assert rotated.key_string.startswith("authsvc_live_")
    assert not rotated.key.imported
    assert await code_of(service, rotated.key_string) == await code_of(service, texts[2]) == "VALID"


async def test_a_string_can_be_imported_again_after_it_was_deleted(service: Service) -> None:
    """That it was absent is not remembered beyond the import."""
    text = new_string()
    for _ in range(2):
        [each] = await import_keys(service.admin, imported(text))
        assert await code_of(service, text) == "VALID"
        await service.admin.RevokeKey(key_id=each.key_id)
        await service.admin.DeleteKey(key_id=each.key_id)
        assert await code_of(service, text) == "NOT_FOUND"


async def test_a_leaked_string_is_revoked(service: Service) -> None:
    texts = [new_string(), new_string()]
    results = await import_keys(service.admin, imported(texts[0]), by_prefix(texts[1]))
    stranger = Client(service.channel, None)
    leaks = [{"key_string": text} for text in (*texts, new_string(), texts[1][:12] + "x" * 30)]
    for _ in range(2):
        await stranger.ReportLeakedKeys(leaks=leaks)
    for text, each in zip(texts, results, strict=True):
        assert await code_of(service, text) == "REVOKED"
        key = await service.admin.GetKey(key_id=each.key_id)
        assert key.revoke_cause == resources_pb2.REVOKE_CAUSE_LEAKED


async def test_it_calls_and_ends_itself(service: Service) -> None:
    """An imported key is a credential of callers, too, and its end is theirs."""
    texts = [new_string(), new_string()]
    scopes = ["keys:self", "keys:read"]
    results = await import_keys(
        service.admin, imported(texts[0], scopes=scopes), by_prefix(texts[1], scopes=scopes)
    )
    for text, each in zip(texts, results, strict=True):
        caller = service.as_caller(text)
        assert (await caller.GetKey(key_id=each.key_id)).key_id == each.key_id
        await caller.RevokeSelf()
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
            await caller.GetKey(key_id=each.key_id)
        assert await code_of(service, text) == "REVOKED"


async def test_a_client_makes_its_own_secret(service: Service) -> None:
    """CreateKey with the digest of a string returns no key string, and the string works."""
    text = new_string()
    made = await service.admin.CreateKey(
        owner_id="acme",
        display_name="Terraform",
        key_hash=digest(text).upper().replace("SHA256", "sha256"),
        request_id="r1",
    )
    assert (made.key_string, made.sealed_key_string) == ("", "")
    assert made.key.imported
    assert not made.key.never_delivered
    assert await code_of(service, text) == "VALID"
    with refused(EXISTS, "REQUEST_REPEATED"):
        await service.admin.CreateKey(
            owner_id="acme", display_name="x", key_hash=digest(new_string()), request_id="r1"
        )
    with refused(EXISTS, "KEY_ALREADY_IMPORTED") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", key_hash=digest(text))
    assert refusal.info.metadata == {"key_id": made.key.key_id, "field": "key_hash"}
    assert refusal.message == (
        f"key_hash: key {made.key.key_id} of this owner has this hash; use that key, or make another secret"
    )
    with refused(EXISTS, "LOOK_UP_IN_USE") as refusal:
        await service.admin.CreateKey(owner_id="globex", display_name="x", key_hash=digest(text))
    assert refusal.message == "key_hash: this hash is in use; make another secret"
    assert refusal.info.metadata == {"field": "key_hash"}


@pytest.mark.parametrize(
    "fields",
    [
        {"key_hash": "x"},
        {"key_hash": "sha256:" + "g" * 64},
        {"key_hash": "0" * 64},
        {"brand": "eg"},
        {"environment": "test"},
        {"seal_to": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
    ],
)
async def test_what_a_digest_is_not_used_with(service: Service, fields: dict[str, str]) -> None:
    request = {"key_hash": digest("x"), **fields}
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", **request)
    assert set(refusal.fields) == set(fields)


async def test_a_string_has_at_most_256_characters(service: Service) -> None:
    longest, longer = "a" * 256, "b" * 257
    await import_keys(service.admin, imported(longest), imported(longer))
    assert await code_of(service, longest) == "VALID"
    assert await code_of(service, longer) == "NOT_FOUND"


async def test_a_string_with_the_form_of_ours_from_another_installation(service: Service) -> None:
    """Its tag is not ours. It is valid nevertheless, and revoked like any other."""
    text = "eg_live_" + "A1b2" * 15 + "xyz"
    [each] = await import_keys(service.admin, imported(text))
    assert await code_of(service, text) == "VALID"
    await service.admin.RevokeKey(key_id=each.key_id)
    assert await code_of(service, text) == "REVOKED"


async def test_made_up_strings_never_reach_the_database(service: Service) -> None:
    """With nothing imported, and with much imported. A metric says how much a worker knows of."""
    metric = service.app.metrics.registry.get_sample_value
    assert metric("authsvc_imported_look_ups") == 0
    await code_of(service, service.admin_key)  # the credential of the caller is in memory from here on
    before = service.app.database.checkouts
    await code_of(service, new_string())
    assert service.app.database.checkouts == before
    await import_keys(service.admin, *(imported(new_string()) for _ in range(500)))
    assert metric("authsvc_imported_look_ups") == 500
    before = service.app.database.checkouts
    runs = service.app.hasher.runs
    for _ in range(200):
        assert await code_of(service, new_string()) == "NOT_FOUND"
    assert service.app.database.checkouts == before
    assert service.app.hasher.runs == runs


async def test_a_second_verification_costs_what_one_of_ours_costs(service: Service) -> None:
    """It is answered from memory: no database, no hash."""
    text = new_string()
    await import_keys(service.admin, by_prefix(text))
    assert await code_of(service, text) == "VALID"
    before, runs = service.app.database.checkouts, service.app.hasher.runs
    assert await code_of(service, text) == "VALID"
    assert await code_of(service, text[:12] + "wrong" * 6) == "NOT_FOUND"
    assert (service.app.database.checkouts, service.app.hasher.runs) == (before, runs)


async def test_every_worker_knows_it_when_the_import_is_answered(database_url: str) -> None:
    """Also one that starts later, and one that had refused the string before."""
    async with serving(database_url, None) as one, serving(database_url, None) as two:
        text, other = new_string(), new_string()
        workers = [one, Service(**{**vars(two), "admin_key": one.admin_key})]
        assert [await code_of(worker, text) for worker in workers] == ["NOT_FOUND", "NOT_FOUND"]
        await import_keys(one.admin, imported(text), by_prefix(other))
        for worker in workers:
            assert [await code_of(worker, each) for each in (text, other)] == ["VALID", "VALID"]
        async with serving(database_url, None) as three:
            late = Service(**{**vars(three), "admin_key": one.admin_key})
            assert [await code_of(late, each) for each in (text, other)] == ["VALID", "VALID"]


async def test_clients_that_hold_credentials_ask_about_it(service: Service) -> None:
    """They know credentials by the beginning of their strings, also a string with the form of ours."""
    texts = [new_string(), new_string(), "eg_live_" + "A1b2" * 15 + "xyz"]
    await import_keys(service.admin, imported(texts[0]), by_prefix(texts[1]), imported(texts[2]))
    async with following(service.address, service.admin_key) as client:
        await client.join()
        for _ in range(2):  # cold, then warm
            for text in texts:
                held = await client.hold(text)
                assert (held.unanswered, held.HasField("credential")) == (True, False)
    assert [await code_of(service, text) for text in texts] == ["VALID"] * 3


async def test_a_client_that_follows_with_an_imported_key_ends_with_it(service: Service) -> None:
    text = new_string()
    [each] = await import_keys(
        service.admin, imported(text, scopes=["keys:verify", "holders:follow"]), owner_id="authsvc"
    )
    async with following(service.address, text) as client:
        await client.join()
        await client.renew()
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=each.key_id))
        await client.confirm(await client.read("end"))
        await revoking
