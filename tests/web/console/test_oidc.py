"""Staff signs in by OpenID Connect: at a small provider, whose answers the test chooses."""

from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse

from authsvc.config.oidc import OidcSecrets
from authsvc.v1.audit_service_pb2 import AuditAction
from tests.conftest import Clock, serving
from tests.web.console.conftest import SCOPES, Browser, Site
from tests.web.console.openid import CLIENT, SECRET, OidcSite, new_key, oidc_site


@pytest_asyncio.fixture
async def oidc(database_url: str, clock: Clock) -> AsyncIterator[OidcSite]:
    async with serving(database_url, clock, scopes=SCOPES) as service, oidc_site(service, clock) as site:
        yield site


async def _sign_in(browser: Browser, **fields: str) -> None:
    """Follow the button of the sign-in page."""
    await browser.open("/sign-in", **fields)
    assert "Sign in with <bdi>Example Login</bdi>" in browser.text
    address = browser.page.text.partition('class="button primary" href="')[2].partition('"')[0]
    await browser.open(address)


async def test_a_member_of_staff_signs_in(oidc: OidcSite) -> None:
    service = oidc.service
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200
        assert browser.page.url.path == "/"
        assert "ada@corp.example" in browser.text
        listed = await service.admin.ListSessions(owner_id="authsvc")
        [session] = listed.sessions
        assert list(session.scopes) == ["keys:read", "sessions:read"]
        assert dict(session.annotations) == {
            "signed-in-as": "ada@corp.example",
            "oidc-issuer": oidc.provider.address,
            "oidc-subject": "ada-1",
        }
        assert session.device.browser == "Chrome"
        assert session.ip_address == "127.0.0.1"
        assert session.idle_timeout.ToTimedelta() == timedelta(minutes=15)
        length = session.latest_expire_time.ToDatetime() - session.create_time.ToDatetime()
        assert length == timedelta(hours=1)
        await browser.open("/devices")
        assert "ada@corp.example" in browser.text
        await browser.open("/keys")
        assert browser.page.status_code == 200
        assert "Create a key" not in browser.text


async def test_the_audit_log_says_who_it_was(oidc: OidcSite) -> None:
    """It keeps that for longer than the session."""
    async with oidc.browser() as browser:
        await _sign_in(browser)
    listed = await oidc.service.admin.ListAuditEvents(owner_id="authsvc")
    [event] = [each for each in listed.events if each.action == AuditAction.AUDIT_ACTION_SESSION_CREATED]
    assert dict(event.details) == {
        "ip_address": "127.0.0.1",
        "scopes": "keys:read sessions:read",
        "signed_in_as": "ada@corp.example",
        "issuer": oidc.provider.address,
        "subject": "ada-1",
    }


async def test_what_the_provider_is_asked(oidc: OidcSite) -> None:
    async with oidc.browser() as browser:
        await _sign_in(browser, next="/keys?search=x")
        assert browser.page.url.path == "/keys"
        assert browser.page.url.params["search"] == "x"
    asked = dict(oidc.provider.asked)
    authorize, token = asked["/authorize"], asked["/token"]
    assert authorize["response_type"] == "code"
    assert authorize["client_id"] == CLIENT
    assert authorize["scope"] == "openid profile email"
    assert authorize["code_challenge_method"] == "S256"
    assert len({authorize["state"], authorize["nonce"], authorize["code_challenge"]}) == 3
    assert min(map(len, (authorize["state"], authorize["nonce"], token["code_verifier"]))) >= 43
    assert "client_secret" not in token
    # All that was asked for once is remembered.
    async with oidc.browser() as browser:
        await _sign_in(browser)
    assert oidc.provider.count("/.well-known/openid-configuration") == oidc.provider.count("/keys") == 1
    assert oidc.provider.count("/user") == 0


async def test_nothing_of_the_provider_stays_in_the_browser(
    oidc: OidcSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "authsvc")
    async with oidc.browser() as browser:
        await _sign_in(browser)
        cookies = {cookie.name: cookie.value or "" for cookie in browser.http.cookies.jar}
        assert cookies.keys() == {"authsvc", "authsvc-sign-in"}
        [code] = oidc.provider.given
        shown = browser.page.text + str(browser.page.url) + caplog.text
        verifier = dict(oidc.provider.asked)["/token"]["code_verifier"]
        for secret in (code, verifier, "access-token-of-ada", SECRET, oidc.service.admin_key):
            assert secret not in shown
            assert not any(secret in value for value in cookies.values())
        page = browser.page.history[-1]
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["location"] == "/"


async def test_the_cookie_of_a_sign_in_has_none_of_its_secrets(oidc: OidcSite) -> None:
    async with oidc.browser() as browser:
        browser.http.follow_redirects = False
        answer = await browser.open("/sign-in/oidc")
        assert answer.status_code == 303
        assert answer.headers["cache-control"] == "no-store"
        [cookie] = answer.headers.get_list("set-cookie")
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
        fields = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        assert all(fields[name] not in cookie for name in ("state", "nonce"))


async def test_every_sign_in_gets_a_new_session(oidc: OidcSite) -> None:
    async with oidc.browser(oidc.service.admin_key) as browser:
        planted = browser.http.cookies["authsvc"]
        await _sign_in(browser)
        assert browser.http.cookies["authsvc"] != planted


async def test_roles_add_up_and_unknown_ones_give_nothing(oidc: OidcSite) -> None:
    oidc.provider.claims["groups"] = ["support", "orders", "full_access", "nobody", 7]
    async with oidc.browser() as browser:
        await _sign_in(browser)
        [session] = (await oidc.service.admin.ListSessions(owner_id="authsvc")).sessions
        assert list(session.scopes) == ["keys:read", "orders:read", "sessions:read"]


@pytest.mark.parametrize("groups", [[], ["nobody"], None, {"support": True}, [["support"]], 7])
async def test_without_a_role_nobody_signs_in(
    oidc: OidcSite, groups: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "authsvc")
    oidc.provider.claims["groups"] = groups
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 403
        assert "You have no access to this console" in browser.text
        assert "support" not in browser.text
        assert "the subject 'ada-1' has no role" in caplog.text
        assert "authsvc" not in browser.http.cookies


async def test_one_role_as_a_text(oidc: OidcSite) -> None:
    oidc.provider.claims["groups"] = "support"
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200


async def test_roles_that_are_not_in_the_id_token(oidc: OidcSite) -> None:
    """Many providers send the claims of a person only when they are asked for these."""
    oidc.provider.claims.pop("groups")
    oidc.provider.claims.pop("email")
    oidc.provider.user = {"groups": ["support"], "email": "ada@corp.example", "iss": "x", "aud": "y"}
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200
        assert "ada@corp.example" in browser.text


async def test_a_name_that_nobody_could_read(oidc: OidcSite) -> None:
    """And an address that is not verified is not shown as theirs."""
    key = oidc.service.admin_key
    oidc.provider.claims.update(
        email_verified=False, preferred_username=f"\u202eada\x00<b>\u200b {key} " + "x" * 400, sub="s" * 255
    )
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200
        assert key not in browser.page.text
        [session] = (await oidc.service.admin.ListSessions(owner_id="authsvc")).sessions
        shown = session.annotations["signed-in-as"]
        assert shown.startswith("ada <b> ")
        assert len(shown) <= 256
        assert session.annotations["oidc-subject"] == "s" * 255


@pytest.mark.parametrize("role", ["admins", "support"])
async def test_signing_out(oidc: OidcSite, role: str) -> None:
    """Also for those who may not end sessions: the key that has opened theirs may."""
    oidc.provider.claims["groups"] = [role]
    async with oidc.browser() as browser:
        await _sign_in(browser)
        token = browser.http.cookies["authsvc"]
        await browser.send("/sign-out")
        assert "You are signed out. The session has ended." in browser.text
        assert "still be signed in at the provider" in browser.text
        assert not (await oidc.service.admin.VerifySession(session_token=token)).valid


async def test_signing_out_when_the_key_is_not_accepted(oidc: OidcSite) -> None:
    async with oidc.browser() as browser:
        await _sign_in(browser)
        oidc.secrets = OidcSecrets("authsvc_live_" + "x" * 63, SECRET)
        await browser.send("/sign-out")
        assert "signed out in this browser" in browser.text
        assert "authsvc" not in browser.http.cookies


async def test_any_worker_finishes_a_sign_in(database_url: str, clock: Clock) -> None:
    """Also one of another replica: nothing is kept between the two requests but the cookie."""
    async with (
        serving(database_url, clock, scopes=SCOPES) as service,
        oidc_site(service, clock, workers=2) as site,
        site.browser() as browser,
    ):
        await browser.open("/sign-in/oidc", next="/keys")
        assert browser.page.status_code == 200
        assert site.provider.count("/.well-known/openid-configuration") == 2


async def test_a_public_client(database_url: str, clock: Clock) -> None:
    async with (
        serving(database_url, clock, scopes=SCOPES) as service,
        oidc_site(service, clock, secret="") as site,
        site.browser() as browser,
    ):
        await _sign_in(browser)
        assert browser.page.status_code == 200
        token = dict(site.provider.asked)["/token"]
        assert token["client_id"] == CLIENT
        assert "client_secret" not in token


async def test_a_provider_that_wants_the_secret_in_the_form(oidc: OidcSite) -> None:
    oidc.provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200
        assert dict(oidc.provider.asked)["/token"]["client_secret"] == SECRET


async def test_an_endpoint_with_a_query(oidc: OidcSite) -> None:
    oidc.provider.metadata["authorization_endpoint"] = f"{oidc.provider.address}/authorize?tenant=1"
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200


async def test_new_keys_of_the_provider_are_used_at_once(oidc: OidcSite) -> None:
    provider = oidc.provider
    async with oidc.browser() as browser:
        await _sign_in(browser)
        provider.key = new_key("two")
        await _sign_in(browser)
        assert browser.page.status_code == 403  # it was asked a moment ago
        assert provider.count("/keys") == 1
        oidc.stopwatch.advance(31)
        await _sign_in(browser)
        assert browser.page.status_code == 200
        assert provider.count("/keys") == 2


async def test_old_keys_and_metadata_are_forgotten(oidc: OidcSite) -> None:
    provider = oidc.provider
    async with oidc.browser() as browser:
        await _sign_in(browser)
        oidc.stopwatch.advance(3601)
        provider.published = [new_key("two").as_dict(private=False)]
        await _sign_in(browser)
        assert browser.page.status_code == 403
        assert provider.count("/.well-known/openid-configuration") == 2


async def test_other_keys_of_the_provider_are_left_out(oidc: OidcSite) -> None:
    """Keys of kinds that we do not know, broken ones, secret ones, and those for encryption."""
    own = oidc.provider.key.as_dict(private=False)
    oidc.provider.published = [
        {"kty": "AKP", "kid": "one", "pub": "x"},
        {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"},
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {**own, "use": "enc"},
        {"kty": "EC", "kid": "one", "crv": "P-256", "x": "AA", "y": "AA"},
        own,
    ]
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 200


async def test_replaced_secrets_count_at_once(oidc: OidcSite) -> None:
    provider = oidc.provider
    async with oidc.browser() as browser:
        await _sign_in(browser)
        provider.secret = "another"
        await _sign_in(browser)
        assert browser.page.status_code == 502
        oidc.secrets = oidc.secrets._replace(client_secret="another")
        await _sign_in(browser)
        assert browser.page.status_code == 200


async def test_a_revoked_key_signs_nobody_in(oidc: OidcSite, caplog: pytest.LogCaptureFixture) -> None:
    admin = oidc.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="console", scopes=["full_access"])
    oidc.secrets = OidcSecrets(made.key_string, SECRET)
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert "acme" in browser.text
        await admin.RevokeKey(key_id=made.key.key_id)
        await _sign_in(browser)
        assert browser.page.status_code == 503
        assert "not set up correctly" in browser.text
        assert "AUTHSVC_CONSOLE_OIDC_KEY_FILE: the key is not accepted" in caplog.text
        assert made.key_string not in caplog.text + browser.page.text
        # Not of a sign-in that did not succeed; the one before has not ended.
        assert len((await admin.ListSessions(owner_id="acme")).sessions) == 1


@pytest.mark.parametrize(
    "scopes", [["keys:read", "sessions:read"], ["keys:read", "sessions:write"]], ids=["to open", "to grant"]
)
async def test_a_key_that_may_not_open_the_session(
    oidc: OidcSite, scopes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It lacks `sessions:write`, or a scope of the role."""
    made = await oidc.service.admin.CreateKey(owner_id="acme", display_name="console", scopes=scopes)
    oidc.secrets = OidcSecrets(made.key_string, SECRET)
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 503
        assert "not set up correctly" in browser.text
        assert "sessions:" not in browser.text
        assert "authsvc" not in browser.http.cookies
        assert "AUTHSVC_CONSOLE_OIDC_KEY_FILE: the key may not open this session" in caplog.text
        assert not (await oidc.service.admin.ListSessions(owner_id="acme")).sessions


async def test_a_session_token_instead_of_the_key(oidc: OidcSite, caplog: pytest.LogCaptureFixture) -> None:
    made = await oidc.service.admin.CreateSession(owner_id="authsvc", scopes=["full_access"])
    oidc.secrets = OidcSecrets(made.session_token, SECRET)
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 503
        assert "AUTHSVC_CONSOLE_OIDC_KEY_FILE: is not an API key" in caplog.text


async def test_without_the_settings_there_is_no_such_sign_in(site: Site) -> None:
    async with site.browser() as browser:
        await browser.open("/sign-in")
        assert "Sign in with" not in browser.text
        for path in ("/sign-in/oidc", "/sign-in/oidc/callback"):
            assert (await browser.open(path)).status_code == 404


async def test_an_answer_that_is_no_json(oidc: OidcSite) -> None:
    oidc.provider.answers["/.well-known/openid-configuration"] = lambda: JSONResponse(["issuer"])
    async with oidc.browser() as browser:
        await _sign_in(browser)
        assert browser.page.status_code == 502
