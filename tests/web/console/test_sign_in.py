"""Signing in and out, and sessions that end while a page is open."""

from datetime import timedelta
from unittest.mock import AsyncMock

import httpx
import pytest

from authsvc.model.errors import Unavailable
from authsvc.web.console import console
from authsvc.web.console.calls import Calls
from authsvc.web.console.problem import problem_of_error
from tests.conftest import Clock
from tests.web.console.conftest import USER_AGENT, Site, rpcs_of, served, site_of


async def test_a_key_opens_a_short_session_and_is_not_kept(site: Site) -> None:
    service = site.service
    async with site.browser(service.admin_key) as browser:
        [cookie] = browser.http.cookies.jar
        assert cookie.name == "authsvc"
        assert cookie.value is not None
        assert cookie.value != service.admin_key
        listed = await service.admin.ListSessions(owner_id="authsvc")
        [session] = listed.sessions
        assert session.device.browser == "Chrome"
        assert session.device.user_agent == USER_AGENT
        assert session.ip_address == "127.0.0.1"
        assert session.idle_timeout.ToTimedelta() == timedelta(minutes=15)
        assert session.latest_expire_time.ToDatetime() - session.create_time.ToDatetime() == timedelta(
            hours=1
        )
        assert list(session.scopes) == ["full_access"]
        every = (*browser.page.history, browser.page)
        assert all(service.admin_key not in str(answer.url) + answer.text for answer in every)
        assert all(service.admin_key not in str(answer.headers) for answer in every)


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    async with site.browser() as browser:
        await browser.open("/sign-in")
        browser.http.follow_redirects = False
        answer = await browser.send("/sign-in", key=site.service.admin_key)
        cookie = next(
            value for value in answer.headers.get_list("set-cookie") if value.startswith("authsvc=")
        )
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=3600"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


async def test_the_cookie_needs_tls_unless_the_operator_says_otherwise(site: Site) -> None:
    """Also for a host name of this machine, which a proxy that ends TLS may put in place of its own."""
    application = console(rpcs_of(site.service), site.service.app.clock, max_seconds=45)
    async with (
        served(application) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http,
    ):
        answer = await http.get("/sign-in")
        [cookie] = answer.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-authsvc-sign-in=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        # A browser did not keep it, because this was plain HTTP.
        answer = await http.post("/sign-in", data={"key": "x", "form_token": "y"})
        assert answer.status_code == 400
        assert "needs HTTPS" in answer.text


async def test_every_sign_in_gets_a_new_session(site: Site) -> None:
    """Whatever the browser had: a session that somebody planted is never used after a sign-in."""
    async with site.browser(site.service.admin_key) as browser:
        planted = browser.http.cookies["authsvc"]
        await browser.sign_in(site.service.admin_key)
        assert browser.http.cookies["authsvc"] != planted


@pytest.mark.parametrize(
    ("text", "told"), [("", "Paste a key"), ("nonsense", "not valid"), ("a_live_x", "not valid")]
)
async def test_what_is_not_a_key_is_refused(site: Site, text: str, told: str) -> None:
    async with site.browser() as browser:
        await browser.sign_in(text)
        assert browser.page.status_code in (400, 401)
        assert told in browser.text
        assert 'aria-describedby="key-hint key-error"' in browser.page.text
        if text:
            assert f'value="{text}"' not in browser.page.text


async def test_a_session_token_is_not_taken_for_a_key(site: Site) -> None:
    """Otherwise somebody could make another one act in a session of theirs."""
    opened = await site.service.admin.CreateSession(owner_id="acme")
    async with site.browser() as browser:
        await browser.sign_in(opened.session_token)
        assert browser.page.status_code == 400
        assert "authsvc" not in browser.http.cookies


async def test_a_key_in_the_cookie_signs_nobody_in(site: Site) -> None:
    async with site.browser() as browser:
        browser.http.cookies.set("authsvc", site.service.admin_key)
        await browser.open("/keys")
        assert browser.page.url.path == "/sign-in"


async def test_a_key_without_the_scope_for_it_is_told_so(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:read"])
    async with site.browser() as browser:
        await browser.sign_in(made.key_string)
        assert browser.page.status_code == 403
        assert "sessions:write" in browser.text
        assert made.key_string not in browser.page.text


async def test_the_login_of_a_product_may_set_the_cookie(site: Site) -> None:
    opened = await site.service.admin.CreateSession(owner_id="acme", scopes=["keys:read", "sessions:read"])
    async with site.browser() as browser:
        browser.http.cookies.set("authsvc", opened.session_token, domain="127.0.0.1")
        await browser.open("/")
        assert "acme" in browser.text
        await browser.open("/keys")
        assert "There are no keys yet" in browser.text
        assert "Create a key" not in browser.text
        await browser.send("/sign-out")
        assert "The session itself could not be ended" in browser.text
        assert "authsvc" not in browser.http.cookies


async def test_signing_out_ends_the_session(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        token = browser.http.cookies["authsvc"]
        await browser.send("/sign-out")
        assert "You are signed out" in browser.text
        assert not (await site.service.admin.VerifySession(session_token=token)).valid
        assert "authsvc" not in browser.http.cookies


async def test_a_session_that_is_revoked_while_a_page_is_open(site: Site) -> None:  # rules 15, 27
    service = site.service
    async with site.browser(service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        form = browser.page
        listed = await service.admin.ListSessions(owner_id="authsvc")
        await service.admin.RevokeSession(session_id=listed.sessions[0].session_id)
        await browser.send(name="Too late")
        assert browser.page.url.path == "/sign-in"
        assert "Your session has ended" in browser.text
        assert not (await service.admin.ListKeys(owner_id="acme")).keys
        await browser.open("/keys")
        assert browser.page.url.path == "/sign-in"
        assert form.status_code == 200


async def test_a_session_expires_without_activity(site: Site, clock: Clock) -> None:
    async with site.browser(site.service.admin_key) as browser:
        clock.advance(minutes=16)
        await browser.open("/keys", owner="acme")
        assert "Your session has ended" in browser.text
        await browser.send("/sign-in", key=site.service.admin_key)
        assert browser.page.url.path == "/keys"
        assert browser.page.url.params["owner"] == "acme"


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\tx"]
)
async def test_a_sign_in_leads_to_no_other_site(site: Site, path: str) -> None:
    async with site.browser() as browser:
        await browser.open("/sign-in", next=path)
        browser.http.follow_redirects = False
        await browser.send("/sign-in", key=site.service.admin_key)
        assert browser.page.headers["location"] == "/"


async def test_guesses_meet_the_limit_of_failures(site: Site) -> None:
    async with site_of(site.service, failure_limit="0.001/3") as limited, limited.browser() as browser:
        for _ in range(3):
            await browser.sign_in("authsvc_live_" + "x" * 63)
            assert browser.page.status_code == 401
        await browser.sign_in("authsvc_live_" + "y" * 63)
        assert browser.page.status_code == 429
        assert "too many attempts" in browser.text


async def test_a_cookie_that_others_may_have_set_is_none(site: Site) -> None:
    """One that only a lenient parser takes for ours, and one of two."""
    application = console(rpcs_of(site.service), site.service.app.clock, max_seconds=45)
    made = await site.service.admin.CreateSession(owner_id="authsvc", scopes=["full_access"])
    name, token = b"__Host-authsvc=", made.session_token.encode()
    async with (
        served(application) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http,
    ):
        for cookies, status in (
            (b"x=1; " + name + token, 200),
            (b"\xa0" + name + token, 303),
            (b"__Host-authsvc\x85=" + token, 303),
            (name + token + b"; " + name + token, 303),
        ):
            assert (await http.get("/keys", headers={b"cookie": cookies})).status_code == status, cookies


async def test_signing_out_while_the_session_cannot_be_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser forgets it all the same, and says that it goes on."""
    async with site.browser(site.service.admin_key) as browser:
        monkeypatch.setattr(
            Calls,
            "__call__",
            AsyncMock(
                side_effect=problem_of_error(
                    Unavailable("it is down", reason="DATABASE_UNAVAILABLE", retry_after=1)
                )
            ),
        )
        await browser.send("/sign-out")
        assert "could not be ended now" in browser.text
        assert "authsvc" not in browser.http.cookies


async def test_a_key_in_an_address_is_not_passed_on(site: Site) -> None:
    async with site.browser() as browser:
        await browser.open("/keys", search=site.service.admin_key)
        assert browser.page.url.path == "/sign-in"
        assert site.service.admin_key not in str(browser.page.url)
