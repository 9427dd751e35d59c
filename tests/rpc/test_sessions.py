"""SessionService: rules 24 to 27, through a client."""

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.model.caller import Caller
from authsvc.model.client_hints import ClientHints
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Unauthenticated
from authsvc.model.new_key import NewKey
from authsvc.model.session import NewSession
from authsvc.v1 import resources_pb2
from authsvc.v1 import session_service_pb2 as session_pb
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


async def sign_in(service: Service, owner_id: str = "alice", **fields: Any) -> Any:
    """Create a session."""
    return await service.admin.CreateSession(owner_id=owner_id, **fields)


async def code_of(service: Service, token: str, **fields: Any) -> str:
    """Return the verdict on a token, without the enum's prefix."""
    verdict = await service.admin.VerifySession(session_token=token, **fields)
    code = resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")
    assert verdict.valid == (code == "VALID")
    return code


async def test_a_session_is_opened_and_verified(service: Service) -> None:  # rules 1, 20
    """The token is returned once; a verification returns the owner and the expiry."""
    made = await sign_in(service, scopes=["b:c", "a"], user_agent=FIREFOX, ip_address="192.0.2.1")
    assert made.session_token.startswith(made.session.key_prefix)
    assert "_session_" in made.session.key_prefix
    for _ in ("cold", "warm"):
        verdict = await service.admin.VerifySession(session_token=made.session_token, required_scopes=["a"])
        assert verdict.valid
        assert verdict.session_id == made.session.session_id
        assert verdict.owner_id == "alice"
        assert list(verdict.scopes) == ["a", "b:c"]
        assert verdict.expire_time == made.session.expire_time
    assert await code_of(service, made.session_token, required_scopes=["d"]) == "INSUFFICIENT_SCOPE"


async def test_the_two_kinds_do_not_pass_for_one_another(service: Service) -> None:  # rules 20, 27
    """A session token in VerifyKey, and a key string in VerifySession, cold and warm."""
    session = await sign_in(service)
    key = await service.admin.CreateKey(owner_id="alice", display_name="k")
    for _ in ("cold", "warm"):
        verdict = await service.admin.VerifyKey(key_string=session.session_token)
        assert verdict == type(verdict)(code=resources_pb2.VERDICT_CODE_NOT_FOUND)
        assert await code_of(service, key.key_string) == "NOT_FOUND"
        assert await code_of(service, session.session_token) == "VALID"
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
        await service.admin.LookupKey(key_string=session.session_token)
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
        await service.admin.RevokeKey(key_id=session.session.session_id)
    with refused(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"):
        await service.admin.RevokeSession(session_id=key.key.key_id)


@pytest.mark.parametrize("warm", [True, False])
async def test_unused_for_too_long_it_ends_at_the_instant(
    service: Service, clock: Clock, warm: bool
) -> None:  # rules 13, 27
    """The idle timeout counts from the last activity, also on a cache hit."""
    made = await sign_in(service, idle_timeout=Duration(seconds=600))
    clock.advance(seconds=599.999)
    assert await code_of(service, made.session_token) == "VALID"
    clock.advance(seconds=599.999)
    if not warm:
        await service.flush()
        service.app.cache.clear()
    assert await code_of(service, made.session_token) == "VALID"
    clock.advance(seconds=600)
    if not warm:
        await service.flush()
        service.app.cache.clear()
    assert await code_of(service, made.session_token) == "EXPIRED"
    assert await code_of(service, made.session_token) == "EXPIRED"
    session = await service.admin.GetSession(session_id=made.session.session_id)
    assert session.state == resources_pb2.SESSION_STATE_EXPIRED


async def test_no_activity_outlives_the_lifetime(service: Service, clock: Clock) -> None:  # rules 13, 27
    """The absolute limit ends it at its instant, regardless of activity."""
    lengths: dict[str, Any] = {"idle_timeout": Duration(seconds=600), "lifetime": Duration(seconds=900)}
    made = await sign_in(service, **lengths)
    clock.advance(seconds=500)
    assert await code_of(service, made.session_token) == "VALID"
    await service.flush()
    clock.advance(seconds=399.999)
    verdict = await service.admin.VerifySession(session_token=made.session_token)
    assert verdict.valid
    assert verdict.expire_time == made.session.latest_expire_time
    clock.advance(seconds=0.001)
    assert await code_of(service, made.session_token) == "EXPIRED"


async def test_the_list_shows_who_is_signed_in_now(service: Service, clock: Clock) -> None:  # rule 24
    """Browser, system, last activity; latest activity first; the current session is marked."""
    laptop = await sign_in(service, user_agent=FIREFOX, ip_address="192.0.2.1")
    clock.advance(minutes=1)
    phone = await sign_in(service, user_agent=SAFARI, ip_address="2001:db8::1")
    clock.advance(minutes=1)
    await sign_in(service, "bob")
    short = await sign_in(service, idle_timeout=Duration(seconds=60))
    clock.advance(minutes=1)
    assert await code_of(service, laptop.session_token, client_ip="198.51.100.9") == "VALID"
    await service.flush()
    listed = await service.admin.ListSessions(owner_id="alice", current_session_id=laptop.session.session_id)
    first, second = listed.sessions
    assert (first.session_id, first.current) == (laptop.session.session_id, True)
    assert (first.device.browser, first.device.os, first.device.device_type) == (
        "Firefox",
        "Linux",
        "desktop",
    )
    assert first.ip_address == "198.51.100.9"
    assert first.last_activity_time.ToDatetime() == clock.now.replace(tzinfo=None)
    assert (second.session_id, second.current) == (phone.session.session_id, False)
    assert (second.device.browser, second.device.os, second.device.device_type) == ("Safari", "iOS", "mobile")
    ended = await service.admin.ListSessions(owner_id="alice", include_ended=True)
    assert {s.session_id: s.state for s in ended.sessions}[short.session.session_id] == (
        resources_pb2.SESSION_STATE_EXPIRED
    )
    assert len(ended.sessions) == 3


async def test_a_session_that_calls_is_the_current_one(service: Service) -> None:  # rule 24
    """A caller with a session token need not name its session."""
    own = await sign_in(service, scopes=["sessions:read"])
    other = await sign_in(service)
    listed = await service.as_caller(own.session_token).ListSessions(owner_id="alice")
    assert {s.session_id: s.current for s in listed.sessions} == {
        own.session.session_id: True,
        other.session.session_id: False,
    }


async def test_pages_hold_each_session_once(service: Service, clock: Clock) -> None:
    """Also sessions of the same instant; a token of another query is refused."""
    made = []
    for number in range(7):
        made.append((await sign_in(service)).session.session_id)
        clock.advance(seconds=number % 2)
    seen: list[str] = []
    page_token = ""
    while True:
        page = await service.admin.ListSessions(owner_id="alice", page_size=3, page_token=page_token)
        seen += [session.session_id for session in page.sessions]
        page_token = page.next_page_token
        if not page_token:
            break
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.ListSessions(owner_id="bob", page_token=page_token)
        assert "page_token" in refusal.fields
    assert sorted(seen) == sorted(made)


async def test_one_device_is_logged_out(service: Service) -> None:  # rules 15, 16, 25, 27
    """That session ends immediately and permanently; no other one does."""
    one, other = await sign_in(service), await sign_in(service)
    for made in (one, other):
        assert await code_of(service, made.session_token) == "VALID"
    revoked = await service.admin.RevokeSession(session_id=one.session.session_id)
    assert revoked.state == resources_pb2.SESSION_STATE_REVOKED
    assert await code_of(service, one.session_token) == "REVOKED"
    assert await code_of(service, other.session_token) == "VALID"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ALREADY_REVOKED"):
        await service.admin.RevokeSession(session_id=one.session.session_id)
    assert [s.session_id for s in (await service.admin.ListSessions(owner_id="alice")).sessions] == [
        other.session.session_id
    ]


async def test_all_devices_are_logged_out(service: Service, clock: Clock) -> None:  # rule 26
    """Every session ends, also the current one; API keys and other owners' sessions do not."""
    made = [await sign_in(service) for _ in range(3)]
    bob = await sign_in(service, "bob")
    key = await service.admin.CreateKey(owner_id="alice", display_name="k")
    for session in (*made, bob):
        assert await code_of(service, session.session_token) == "VALID"
    answer = await service.admin.RevokeAllSessions(owner_id="alice")
    assert answer.revoked_count == 3
    for session in made:
        assert await code_of(service, session.session_token) == "REVOKED"
        shown = await service.admin.GetSession(session_id=session.session.session_id)
        assert shown.state == resources_pb2.SESSION_STATE_REVOKED
        assert shown.revoke_time.ToDatetime() == clock.now.replace(tzinfo=None)
        assert shown.revoker_id
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ALREADY_REVOKED"):
            await service.admin.RevokeSession(session_id=session.session.session_id)
    assert await code_of(service, bob.session_token) == "VALID"
    assert (await service.admin.VerifyKey(key_string=key.key_string)).valid
    assert not (await service.admin.ListSessions(owner_id="alice")).sessions
    again = await sign_in(service)
    assert await code_of(service, again.session_token) == "VALID"
    assert (await service.admin.RevokeAllSessions(owner_id="alice")).revoked_count == 1
    assert (await service.admin.RevokeAllSessions(owner_id="alice")).revoked_count == 0
    assert await code_of(service, again.session_token) == "REVOKED"


async def test_no_more_are_counted_than_takes_little_time(
    service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # rule 26
    """All end, for any number; the count is exact up to a bound, and a lower bound above it."""
    monkeypatch.setattr("authsvc.store.sessions._MAX_COUNTED_ROWS", 3)
    for count in (3, 5):
        await sign_in(service, idle_timeout=Duration(seconds=60))
        clock.advance(seconds=60)
        made = [await sign_in(service) for _ in range(count - 1)]
        answer = await service.admin.RevokeAllSessions(owner_id="alice")
        assert answer.revoked_count_is_lower_bound is (count > 3)
        assert answer.revoked_count == 2 if count == 3 else 2 <= answer.revoked_count <= 3
        for session in made:
            assert await code_of(service, session.session_token) == "REVOKED"
    events = await service.admin.ListAuditEvents(
        owner_id="alice", filter={"actions": ["AUDIT_ACTION_OWNER_SESSIONS_REVOKED"]}
    )
    assert events.events[0].details["count"] == f"at least {answer.revoked_count}"


async def test_all_but_the_current_one(service: Service) -> None:  # rule 26
    """The exception stays active; the next call that does not name it ends it."""
    kept, *others = [await sign_in(service) for _ in range(3)]
    kept_id = kept.session.session_id
    answer = await service.admin.RevokeAllSessions(owner_id="alice", except_session_id=kept_id)
    assert answer.revoked_count == 2
    for _ in range(2):
        assert await code_of(service, kept.session_token) == "VALID"
        for session in others:
            assert await code_of(service, session.session_token) == "REVOKED"
        await service.admin.RevokeAllSessions(owner_id="alice", except_session_id=kept_id)
    # Naming an ended session does not revive it.
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        await service.admin.RevokeAllSessions(
            owner_id="alice", except_session_id=others[0].session.session_id
        )
    assert await code_of(service, kept.session_token) == "VALID"
    await service.admin.RevokeAllSessions(owner_id="alice")
    for session in (kept, *others):
        assert await code_of(service, session.session_token) == "REVOKED"


async def test_an_exception_that_does_not_go_on_is_refused(service: Service, clock: Clock) -> None:  # rule 19
    """Nothing ends if it is unknown, of another owner, revoked or expired; the errors are the same."""
    mine, bob, out = await sign_in(service), await sign_in(service, "bob"), await sign_in(service)
    idle = await sign_in(service, idle_timeout=Duration(seconds=60))
    await service.admin.RevokeSession(session_id=out.session.session_id)
    clock.advance(seconds=60)
    told = set()
    for session_id in (*(made.session.session_id for made in (bob, out, idle)), "ses_unknown"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.RevokeAllSessions(owner_id="alice", except_session_id=session_id)
        assert list(refusal.fields) == ["except_session_id"]
        told.add(refusal.message)
    assert len(told) == 1
    assert await code_of(service, mine.session_token) == "VALID"


async def test_an_exception_that_is_logged_out_meanwhile(service: Service) -> None:
    """In either order: both end, or the call is refused and the other sessions stay active."""
    for _ in range(10):
        kept, other = await sign_in(service), await sign_in(service)
        session_id = kept.session.session_id
        ended: Any
        ended, _ = await asyncio.gather(
            service.admin.RevokeAllSessions(owner_id="alice", except_session_id=session_id),
            service.admin.RevokeSession(session_id=session_id),
            return_exceptions=True,
        )
        refused_it = isinstance(ended, grpc.aio.AioRpcError)
        if refused_it:
            assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await code_of(service, kept.session_token) == "REVOKED"
        assert await code_of(service, other.session_token) == ("VALID" if refused_it else "REVOKED")
        await service.admin.RevokeAllSessions(owner_id="alice")


async def test_another_owner_sees_nothing(service: Service) -> None:  # rules 19, 27
    """Token, id and owner of another, used by a caller with all scopes."""
    made = await sign_in(service)
    key = await service.admin.CreateKey(owner_id="globex", display_name="g", scopes=["full_access"])
    globex = service.as_caller(key.key_string)
    for _ in ("cold", "warm"):
        verdict = await globex.VerifySession(session_token=made.session_token)
        assert verdict == type(verdict)(code=resources_pb2.VERDICT_CODE_NOT_FOUND)
        assert await code_of(service, made.session_token) == "VALID"
    for call in (globex.GetSession, globex.RevokeSession):
        with refused(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"):
            await call(session_id=made.session.session_id)
    for refuse in (globex.CreateSession, globex.ListSessions, globex.RevokeAllSessions):
        with refused(grpc.StatusCode.PERMISSION_DENIED, "OWNER_NOT_PERMITTED"):
            await refuse(owner_id="alice")


async def test_nobody_grants_what_they_lack(service: Service) -> None:  # rule 6
    """A login service can grant a session only scopes that it has itself."""
    login = await service.admin.CreateKey(owner_id="alice", display_name="l", scopes=["sessions:write", "a"])
    caller = service.as_caller(login.key_string)
    assert (await caller.CreateSession(owner_id="alice", scopes=["a"])).session_token
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_GRANTABLE"):
        await caller.CreateSession(owner_id="alice", scopes=["b"])


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"owner_id": ""}, "owner_id"),
        ({"idle_timeout": Duration(seconds=59)}, "idle_timeout"),
        ({"idle_timeout": Duration(seconds=31 * 86400)}, "idle_timeout"),
        ({"idle_timeout": Duration(seconds=315576000000)}, "idle_timeout"),
        ({"lifetime": Duration(seconds=1)}, "lifetime"),
        ({"lifetime": Duration(seconds=366 * 86400)}, "lifetime"),
        ({"scopes": ["a b"]}, "scopes[0]"),
        ({"annotations": {"": "x"}}, "annotations['']"),
    ],
)
async def test_bad_wishes_are_named(service: Service, fields: dict[str, Any], path: str) -> None:
    """The error names the field, and no session is created."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.CreateSession(**{"owner_id": "alice", **fields})
    assert path in refusal.fields
    assert not (await service.admin.ListSessions(owner_id="alice", include_ended=True)).sessions


@pytest.mark.parametrize(
    ("agent", "shown"), [("curl/8\t(x)", "curl/8 (x)"), ("x" * 8193, "x" * 512), ("x\0", "x")]
)
@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("testclient", ""),
    ],
)
async def test_what_is_only_shown_fails_nothing(
    service: Service, clock: Clock, agent: str, shown: str, address: str, kept: str
) -> None:
    """A sign-in and a verification accept and clean the same input; an invalid address is dropped."""
    made = await sign_in(service, user_agent=agent, ip_address=address)
    assert (made.session.device.user_agent, made.session.ip_address) == (shown, kept)
    later = await sign_in(service)
    clock.advance(seconds=1)
    assert await code_of(service, later.session_token, user_agent=agent, client_ip=address) == "VALID"
    await service.flush()
    found = await service.admin.GetSession(session_id=later.session.session_id)
    assert (found.device.user_agent, found.ip_address) == (shown, kept)


async def test_client_hints_tell_the_version_of_the_system(service: Service, clock: Clock) -> None:
    """From the sign-in and later requests, until a request of another browser."""
    chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"
    windows = {"platform": '"Windows"', "platform_version": '"15.0.0"'}
    made = await sign_in(service, user_agent=chrome, client_hints=windows)
    assert (made.session.device.os, made.session.device.os_version) == ("Windows", "11")

    async def version(**told: Any) -> str:
        clock.advance(seconds=1)
        assert await code_of(service, made.session_token, **told) == "VALID"
        await service.flush()
        found = await service.admin.GetSession(session_id=made.session.session_id)
        return f"{found.device.browser} on {found.device.os} {found.device.os_version}"

    # A request with only the hints that are always sent, or with none.
    assert await version(user_agent=chrome, client_hints={"platform": '"Windows"'}) == "Chrome on Windows 11"
    assert await version() == "Chrome on Windows 11"
    assert await version(client_hints=windows | {"platform_version": '"10.0.0"'}) == "Chrome on Windows 10"
    assert await version(user_agent=FIREFOX) == "Firefox on Linux "
    # Before any of it is written to the database.
    clock.advance(seconds=1)
    assert await code_of(service, made.session_token, user_agent=chrome, client_hints=windows) == "VALID"
    assert await version(user_agent=chrome) == "Chrome on Windows 11"
    # A credential in them is removed, as in the user agent.
    await version(user_agent=chrome, client_hints={"model": made.session_token})
    found = await service.admin.GetSession(session_id=made.session.session_id)
    assert made.session_token[-51:] not in str(found)


async def test_client_hints_are_cut_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they arrive; the result is stored and shown unchanged."""
    cut: list[ClientHints] = []
    kept = ClientHints.kept

    def counted(hints: ClientHints) -> ClientHints:
        cut.append(hints)
        return kept(hints)

    monkeypatch.setattr(ClientHints, "kept", counted)
    made = await sign_in(service, user_agent=FIREFOX, client_hints={"model": '"Pixel\u202e8"'})
    assert made.session.device.model == "Pixel 8"
    assert await service.admin.GetSession(session_id=made.session.session_id) == made.session
    assert cut == [ClientHints(model='"Pixel\u202e8"')]


async def test_a_token_is_not_fixed_beforehand(service: Service) -> None:  # rule 27
    """No field of CreateSession takes a token, and the tokens of two sign-ins have nothing in common."""
    one, other = await sign_in(service), await sign_in(service)
    assert one.session_token[-51:] != other.session_token[-51:]
    assert one.session.key_prefix != other.session.key_prefix
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        await service.admin.CreateSession(owner_id="alice", annotations={"token": one.session_token})
    third = await sign_in(service, user_agent=one.session_token)
    assert third.session.key_prefix not in (one.session.key_prefix, other.session.key_prefix)


@pytest.mark.parametrize(
    "told",
    [
        {"user_agent": "App/1 ({})"},
        {"user_agent": "x" * 500 + "{}"},
        {"user_agent": "{} " * 100},
        {"user_agent": "App/1", "client_hints": {"model": '"{}"', "platform": '"Android"'}},
        {"user_agent": "{}", "client_hints": {"brands": '"{}";v="1"', "full_version_list": "{}"}},
    ],
    ids=["agent", "at the end", "many", "hints", "both"],
)
async def test_a_credential_in_what_is_only_shown_is_cut(
    service: Service, clock: Clock, database_url: str, told: dict[str, Any]
) -> None:  # rule 1
    """A sign-in and a verification succeed and keep the same: the prefix, and never the secret."""
    secret = (await sign_in(service, "bob")).session_token

    def filled(told: Any) -> Any:
        if isinstance(told, str):
            return told.replace("{}", secret)
        return {name: filled(text) for name, text in told.items()}

    made = await sign_in(service, **filled(told))
    later = await sign_in(service)
    clock.advance(seconds=1)
    assert await code_of(service, later.session_token, **filled(told)) == "VALID"
    await service.flush()
    found = await service.admin.GetSession(session_id=later.session.session_id)
    assert found.device == made.session.device
    columns = "SELECT user_agent, client_hints::text FROM authsvc.sessions WHERE owner_id = 'alice'"
    connection = await asyncpg.connect(database_url)
    kept = [tuple(row) for row in await connection.fetch(columns)]
    await connection.close()
    assert len(kept) == 2
    assert kept[0] == kept[1]
    assert secret[-51:-43] not in str(kept)


async def test_a_credential_beside_what_is_only_shown_is_refused(service: Service) -> None:  # rule 1
    """Cutting it in one field does not allow it in another, or in an unknown field."""
    token = (await sign_in(service, "bob")).session_token
    shown: dict[str, Any] = {"owner_id": "alice", "user_agent": token, "client_hints": {"model": token}}
    unknown = session_pb.CreateSessionRequest(**shown)
    unknown.MergeFromString(b"\xfa\x3e" + bytes([len(token)]) + token.encode())  # field 1007
    for request in (
        session_pb.CreateSessionRequest(**shown, ip_address=token),
        session_pb.CreateSessionRequest(**shown, annotations={"note": token}),
        unknown,
    ):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.CreateSession(request)
        assert token not in refusal.message


async def test_a_hostile_user_agent_does_no_harm(service: Service, clock: Clock) -> None:  # rule 1
    """The user agent is stored without tokens and control characters, and with at most 512 characters."""
    made = await sign_in(service)
    kept = {
        made.session_token: f"{made.session.key_prefix}…",
        "\0\n\x1b[31m": "[31m",
        "ы" * 100_000: "ы" * 512,
        f"{made.session_token} " * 100: f"{made.session.key_prefix}… " * 100,
        "curl/8 \u202egnp.exe": "curl/8  gnp.exe",
    }
    for agent, told in kept.items():
        clock.advance(seconds=1)
        assert await code_of(service, made.session_token, user_agent=agent) == "VALID"
        await service.flush()
        shown = await service.admin.GetSession(session_id=made.session.session_id)
        assert shown.device.user_agent == told[:512].strip()
        assert made.session_token[-51:] not in str(shown)


async def test_who_tells_nothing_of_the_device_changes_nothing(
    service: Service, clock: Clock
) -> None:  # rule 24
    """A verification with an address and a browser, then one without, before either is written."""
    made = await sign_in(service, scopes=["sessions:read"])
    clock.advance(seconds=1)
    told = {"client_ip": "198.51.100.9", "user_agent": FIREFOX}
    assert await code_of(service, made.session_token, **told) == "VALID"
    clock.advance(seconds=1)
    assert await code_of(service, made.session_token) == "VALID"
    await service.flush()
    shown = await service.admin.GetSession(session_id=made.session.session_id)
    assert (shown.ip_address, shown.device.browser) == ("198.51.100.9", "Firefox")
    assert shown.last_activity_time.ToDatetime() == clock.now.replace(tzinfo=None)


async def test_a_session_that_ends_leaves_none_behind(service: Service) -> None:  # rule 26
    """A caller authenticated before all sessions ended cannot open a session or create a key after that."""
    thief = await sign_in(service, scopes=["sessions:write", "keys:write"])
    caller = Caller(
        thief.session.session_id, "alice", ("sessions:write", "keys:write"), CredentialKind.SESSION
    )
    await service.admin.RevokeAllSessions(owner_id="alice")
    with pytest.raises(Unauthenticated):
        await service.app.sessions.create(caller, NewSession(owner_id="alice"))
    with pytest.raises(Unauthenticated):
        await service.app.keys.create(caller, NewKey(owner_id="alice", display_name="k"))
    assert not (await service.admin.ListSessions(owner_id="alice")).sessions


async def test_logging_out_everywhere_leaves_keys_in_memory(service: Service) -> None:  # rule 26
    """The owner's sessions are removed from memory, its keys are not."""
    key = await service.admin.CreateKey(owner_id="alice", display_name="k")
    made = await sign_in(service)
    assert (await service.admin.VerifyKey(key_string=key.key_string)).valid
    assert await code_of(service, made.session_token) == "VALID"
    runs = service.app.hasher.runs
    await service.admin.RevokeAllSessions(owner_id="alice")
    assert service.app.cache.get(made.session.key_prefix) is None
    assert (await service.admin.VerifyKey(key_string=key.key_string)).valid
    assert service.app.hasher.runs == runs


async def test_a_deleted_key_leaves_no_session_behind(service: Service) -> None:  # rule 16
    """A caller that is deleted before its session would be created creates none."""
    key = await service.admin.CreateKey(owner_id="alice", display_name="k", scopes=["sessions:write"])
    await service.admin.RevokeKey(key_id=key.key.key_id)
    await service.admin.DeleteKey(key_id=key.key.key_id)
    caller = Caller(key.key.key_id, "alice", ("sessions:write",), CredentialKind.KEY)
    with pytest.raises(Unauthenticated):
        await service.app.sessions.create(caller, NewSession(owner_id="alice"))
