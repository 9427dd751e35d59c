"""What other sites and other people try on those who are signed in."""

import re
from itertools import cycle
from typing import Any

import pytest

from tests.conftest import Clock
from tests.web.console.conftest import Browser, Site

_HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
# Turns the direction of text, and cannot be seen.
_OVERRIDE, _ZERO_WIDTH = "\u202e", "\u200b"


async def _form(browser: Browser, site: Site) -> dict[str, Any]:
    await browser.open("/keys/new", owner="acme")
    return {**browser.form(), "name": "Forged", "expiry": "unlimited"}


async def _keys(site: Site) -> list[str]:
    return [key.display_name for key in (await site.service.admin.ListKeys(owner_id="acme")).keys]


async def test_a_form_of_ours_is_accepted(site: Site) -> None:
    """So the refusals below are for what differs from this."""
    async with site.browser(site.service.admin_key) as browser:
        form = await _form(browser, site)
        await browser.http.post(
            "/keys/new", data=form, headers={"sec-fetch-site": "same-origin", "origin": "null"}
        )
        assert await _keys(site) == ["Forged"]


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        ({"form_token": ""}, {}),
        ({"form_token": "A" * 43}, {}),
        ({}, {"sec-fetch-site": "cross-site"}),
        ({}, {"sec-fetch-site": "same-site"}),
        ({}, {"origin": "https://evil.example"}),
        ({}, {"origin": "http://127.0.0.1:1"}),
        ({}, {"content-type": "text/plain"}),
        ({}, {"content-type": "multipart/form-data; boundary=x"}),
    ],
)
async def test_forged_forms_change_nothing(
    site: Site, changed: dict[str, str], headers: dict[str, str]
) -> None:
    async with site.browser(site.service.admin_key) as browser:
        form = await _form(browser, site)
        answer = await browser.http.post("/keys/new", data={**form, **changed}, headers=headers)
        assert answer.status_code in (400, 403)
        assert "nothing was changed" in answer.text
        assert await _keys(site) == []


async def test_the_token_of_one_form_is_not_that_of_another(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        form = await _form(browser, site)
        path = f"/keys/{made.key.key_id}/revoke"
        answer = await browser.http.post(path, data={"form_token": form["form_token"], "typed": "Billing"})
        assert answer.status_code == 403
        assert (await site.service.admin.VerifyKey(key_string=made.key_string)).valid


async def test_the_token_of_one_session_is_not_that_of_another(site: Site) -> None:
    async with site.browser(site.service.admin_key) as one, site.browser(site.service.admin_key) as other:
        form = await _form(one, site)
        answer = await other.http.post("/keys/new", data=form)
        assert answer.status_code == 403


async def test_nobody_is_signed_in_by_another_site(site: Site) -> None:
    """Otherwise they would create keys in the account of the attacker."""
    async with site.browser() as browser:
        await browser.open("/sign-in")
        form = {**browser.form("/sign-in"), "key": site.service.admin_key}
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
            answer = await browser.http.post("/sign-in", data=form, headers=headers)
            assert answer.status_code == 403
        answer = await browser.http.post("/sign-in", data={**form, "form_token": "A" * 43})
        assert answer.status_code == 403
        assert "authsvc" not in browser.http.cookies


async def test_no_link_changes_anything(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        for path in (
            f"/keys/{made.key.key_id}/revoke",
            f"/keys/{made.key.key_id}/rotate",
            f"/keys/{made.key.key_id}/disable",
            "/devices/log-out",
        ):
            await browser.open(path)
            assert browser.page.status_code == 200
        for path in ("/sign-out", "/devices/ses_x/log-out"):
            await browser.open(path)
            assert browser.page.status_code in (404, 405)
        assert (await site.service.admin.VerifyKey(key_string=made.key_string)).valid
        await browser.open("/keys")
        assert browser.page.url.path == "/keys"


async def test_no_link_claims_that_something_was_done(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    revoked = await admin.CreateKey(owner_id="acme", display_name="Revoked")
    await admin.RevokeKey(key_id=revoked.key.key_id)
    webhook = await admin.CreateWebhook(owner_id="acme", url="https://example.org/")
    done = {
        "/keys": ("deleted",),
        "/devices": ("one", "others", "all"),
        f"/keys/{made.key.key_id}": ("revoked", "scheduled", "updated", "disabled", "enabled"),
        f"/keys/{revoked.key.key_id}": ("revoked", "scheduled", "updated"),
        "/sign-in": ("",),
        "/policy?owner=acme": ("updated",),
        "/webhooks?owner=acme": ("deleted",),
        f"/webhooks/{webhook.webhook.webhook_id}": ("delivered 200",),
    }
    async with site.browser(site.service.admin_key) as browser:
        proofs = cycle(("", "A" * 43, "\u20ac"))
        for path, claims in done.items():
            for claim in claims:
                await browser.open(path, done=claim, proof=next(proofs), left="1", ended="1")
                assert browser.page.status_code == 200
                assert 'role="status"' not in browser.page.text, (path, claim)


async def test_a_confirmation_is_for_one_key_and_one_session(site: Site, clock: Clock) -> None:
    """And is no longer shown when the key has another state."""
    admin = site.service.admin
    one, other = [await admin.CreateKey(owner_id="acme", display_name=name) for name in ("One", "Other")]
    path = f"/keys/{one.key.key_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/revoke")
        await browser.send(when="hour")
        assert "The revocation is scheduled" in browser.text
        claim = dict(browser.page.url.params)
        await browser.open(f"/keys/{other.key.key_id}", **claim)
        assert 'role="status"' not in browser.page.text
        async with site.browser(site.service.admin_key) as somebody:
            await somebody.open(path, **claim)
            assert 'role="status"' not in somebody.page.text
        clock.advance(minutes=10)
        await admin.RevokeKey(key_id=one.key.key_id)
        await browser.open(path, **claim)
        assert 'role="status"' not in browser.page.text


async def test_every_answer_has_the_headers(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys")
        links = re.findall(r'(?:href|src)="(/static/[^"]+)"', browser.page.text)
        assert len(links) == 2
        for path in ("/keys", "/", "/sign-in", "/nothing", "/static/nothing", "/keys/key_x", *links):
            answer = await browser.open(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-content-type-options"] == "nosniff"
            kept = "public, max-age=31536000, immutable" if path in links else "no-store"
            assert answer.headers["cache-control"] == kept
            assert " style=" not in answer.text
            assert not re.search(r"<script(?! src=\"/static/)|<style| on[a-z]+=", answer.text)


async def test_texts_of_others_are_shown_as_texts(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(
        owner_id="acme", display_name=_HOSTILE, description=_HOSTILE, annotations={"x": _HOSTILE}
    )
    await admin.CreateSession(owner_id="acme", user_agent=_HOSTILE, annotations={"x": _HOSTILE})
    await admin.RevokeKey(key_id=made.key.key_id, reason=_HOSTILE)
    async with site.browser(site.service.admin_key) as browser:
        key = f"/keys/{made.key.key_id}"
        lists = ("/keys?owner=acme", "/devices?owner=acme", "/audit?owner=acme")
        for path in (*lists, key, f"{key}/delete", f"{key}/revoke"):
            await browser.open(path)
            assert browser.page.status_code == 200
            assert "<script>alert" not in browser.page.text
            assert "<img" not in browser.page.text
            assert "alert(1)" in browser.page.text, path


async def test_what_is_typed_is_shown_as_text(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        for path in ("/keys", "/audit", "/devices", "/policy", "/webhooks", "/keys/new"):
            for name in (
                "owner",
                "q",
                "scope",
                "state",
                "creator",
                "actor",
                "target",
                "after",
                "page",
                "sort",
                "done",
            ):
                await browser.open(path, **{name: _HOSTILE})
                assert browser.page.status_code in (200, 400), (path, name)
                assert "<script>alert" not in browser.page.text
                assert "<img" not in browser.page.text
        form = await _form(browser, site)
        answer = await browser.http.post("/keys/new", data={**form, "description": _HOSTILE, "name": ""})
        assert answer.status_code == 400
        assert "<script>alert" not in answer.text
        await browser.open("/sign-in", next=_HOSTILE)
        assert "<script>alert" not in browser.page.text
        await browser.open("/" + _HOSTILE)
        assert "<script>alert" not in browser.page.text


async def test_characters_that_nobody_sees_are_shown(site: Site) -> None:
    """User agents are not texts that the service refuses."""
    agent = f"evil{_OVERRIDE}gpj{_ZERO_WIDTH}"
    await site.service.admin.CreateSession(owner_id="acme", user_agent=agent)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/devices", owner="acme")
        assert _OVERRIDE not in browser.page.text
        assert _ZERO_WIDTH not in browser.page.text
        await browser.open("/keys", q=agent)
        assert browser.page.status_code in (200, 400)


async def test_a_tenant_sees_its_own_only(site: Site) -> None:  # rule 19
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="other", display_name="Secret plan")
    own = await admin.CreateKey(
        owner_id="acme",
        display_name="Own",
        scopes=["keys:read", "keys:write", "sessions:read", "sessions:write"],
    )
    session = await admin.CreateSession(owner_id="other")
    async with site.browser(own.key_string) as browser:
        for path in (
            "/keys?owner=other",
            f"/keys/{made.key.key_id}",
            f"/keys/{made.key.key_id}/revoke",
            "/devices?owner=other",
            "/audit?owner=other",
            "/status",
            "/policy?owner=other",
        ):
            await browser.open(path)
            assert "Secret plan" not in browser.text
            assert session.session.session_id not in browser.text
        await browser.open("/keys")
        assert "Own" in browser.text
        assert 'href="/audit' not in browser.page.text
        await browser.open("/audit")
        assert browser.page.status_code == 403
        assert "audit_logs:read" in browser.text


async def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        form = await _form(browser, site)
        for extra in ({"description": "x" * 300_000}, {"scope": ["a"] * 500}):
            answer = await browser.http.post("/keys/new", data={**form, **extra})
            assert answer.status_code == 400
        assert await _keys(site) == []
