"""Disabling and enabling keys on the pages: until when, who may, and what is refused."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from authsvc.v1 import resources_pb2
from tests.conftest import Clock
from tests.web.console.conftest import Browser, Site

_HOSTILE = "<script>alert(1)</script>\"'>"
_OWN = ["keys:read", "keys:write", "sessions:write"]


async def _made(site: Site, name: str = "Billing", scopes: tuple[str, ...] = ()) -> str:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name=name, scopes=scopes)
    return str(made.key.key_id)


async def _key_string(site: Site, *scopes: str) -> str:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Own", scopes=[*_OWN, *scopes])
    return str(made.key_string)


def _offered(browser: Browser, key_id: str) -> set[str]:
    """Return what the page offers to do with a key."""
    return set(re.findall(rf'(?:href|action)="/keys/{key_id}/(\w+)', browser.page.text))


async def test_a_key_is_disabled_and_enabled(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name=_HOSTILE)
    await admin.VerifyKey(key_string=made.key_string)
    await site.service.flush()
    path = f"/keys/{made.key.key_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/disable")
        for told in (made.key.key_prefix, "This key was used", "autofocus>Cancel<"):
            assert told in browser.text, told
        await browser.send(reason=_HOSTILE)
        assert "The key is disabled" in browser.text
        for told in ("<span>Disabled</span>", "The platform has disabled it", "When it is enabled"):
            assert told in browser.page.text, told
        assert "<script>alert" not in browser.page.text
        assert _HOSTILE in browser.text
        assert _offered(browser, made.key.key_id) == {"edit", "revoke", "enable", "disable"}
        assert (await admin.VerifyKey(key_string=made.key_string)).code == resources_pb2.VERDICT_CODE_DISABLED
        await browser.open("/keys", owner="acme", state="disabled")
        assert "<span>Disabled</span>" in browser.page.text
        assert _offered(browser, made.key.key_id) == {"edit", "revoke"}
        await browser.open(f"{path}/rotate")
        assert "Enable it first" in browser.text
        assert "Rotate key" not in browser.text
        await browser.open(path)
        await browser.send(f"{path}/enable")
        assert "The key is enabled" in browser.text
        assert _offered(browser, made.key.key_id) == {"edit", "rotate", "disable", "revoke"}
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        await browser.open("/keys", owner="acme", state="disabled")
        assert "No key matches" in browser.text


async def test_each_choice_of_until_when(site: Site, clock: Clock) -> None:
    clock.now = datetime(2027, 1, 31, 12, tzinfo=UTC)
    key_id = await _made(site)
    expected = {
        "hour": clock.now + timedelta(hours=1),
        "day": clock.now + timedelta(days=1),
        "week": clock.now + timedelta(days=7),
        "time": datetime(2027, 2, 1, 8, 30, tzinfo=UTC),
        "enabled": None,
    }
    async with site.browser(site.service.admin_key) as browser:
        for choice, until in expected.items():
            await browser.open(f"/keys/{key_id}/disable")
            await browser.send(until=choice, time="2027-02-01T08:30", reason=choice)
            key = await site.service.admin.GetKey(key_id=key_id)
            assert key.disable_reason == choice
            found = key.disabled_until.ToDatetime(UTC) if key.HasField("disabled_until") else None
            assert found == until
            if until is not None:
                assert re.search(rf"Disabled until <time[^>]*>{until:%Y-%m-%d %H:%M} UTC<", browser.page.text)
        # What is disabled already shows its reason, to be changed or kept.
        await browser.open(f"/keys/{key_id}/disable")
        assert browser.form()["reason"] == ["enabled"]


_WRONG = [
    ({"until": ""}, "Choose until when"),
    ({"until": _HOSTILE}, "Choose until when"),
    ({"until": "time", "time": ""}, "Choose a date and a time"),
    ({"until": "time", "time": _HOSTILE}, "Choose a date and a time"),
    ({"until": "time", "time": "2099-01-01T10:00+02:00"}, "Choose a date and a time"),
    ({"until": "time", "time": "0001-01-01T00:00"}, "in the past"),
    ({"until": "time", "time": "2020-01-01T10:00"}, "in the past"),
    ({"reason": "x" * 501}, "500"),
    ({"reason": "a\u202eb"}, "U+202E"),
]


async def test_bad_input_is_told_at_its_field_and_kept(site: Site) -> None:
    key_id = await _made(site)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{key_id}/disable")
        form = {**browser.form(), "reason": "Kept"}
        for typed, told in _WRONG:
            browser.page = await browser.http.post(f"/keys/{key_id}/disable", data={**form, **typed})
            assert browser.page.status_code == 400, typed
            wrong = re.search(r'id="(until|reason)-error">(.*?)</p>', browser.page.text, re.DOTALL)
            assert wrong is not None, typed
            assert told in wrong[2], typed
            assert f'{wrong[1]}-error" aria-invalid="true"' in browser.page.text
            assert browser.form()["reason"] == [typed.get("reason", "Kept")]
            assert browser.form()["time"] == [typed.get("time", "")]
            assert "<script>alert" not in browser.page.text
    assert (await site.service.admin.GetKey(key_id=key_id)).state == resources_pb2.KEY_STATE_ACTIVE


async def test_what_the_platform_has_disabled_the_owner_does_not_enable(site: Site) -> None:
    key_id = await _made(site)
    await site.service.admin.DisableKey(key_id=key_id, reason="abuse")
    async with site.browser(await _key_string(site)) as browser:
        await browser.open(f"/keys/{key_id}")
        assert "only the platform can enable it" in browser.text
        assert "abuse" in browser.text
        assert _offered(browser, key_id) == {"edit", "revoke"}
        await browser.open(f"/keys/{key_id}/disable")
        assert "only the platform can enable it" in browser.text
        assert 'name="until"' not in browser.page.text
        token = browser.form()
        browser.page = await browser.http.post(
            f"/keys/{key_id}/disable", data={**token, "until": "hour", "reason": "mine"}
        )
        assert browser.page.status_code == 403
        assert "only the platform can enable it" in browser.text
    key = await site.service.admin.GetKey(key_id=key_id)
    assert (key.state, key.disable_reason) == (resources_pb2.KEY_STATE_DISABLED, "abuse")


async def test_rights_follow_the_scopes(site: Site) -> None:
    """Who lacks a scope of a key may disable it, and not enable it; who only reads does neither."""
    key_id = await _made(site, scopes=("orders:read",))
    path = f"/keys/{key_id}"
    async with site.browser(await _key_string(site, "orders:read")) as full:
        await full.open(path)
        async with site.browser(await _key_string(site)) as narrow:
            await narrow.open(f"{path}/disable")
            await narrow.send()
            assert "Only a caller that has all scopes" in narrow.text
            assert _offered(narrow, key_id) == {"edit", "revoke", "disable"}
        await full.open(path)
        stale = full.form(f"{path}/enable")
        await full.send(f"{path}/enable")
        assert "The key is enabled" in full.text
        await site.service.admin.DisableKey(key_id=key_id)
        full.page = await full.http.post(f"{path}/enable", data=stale)
        assert full.page.status_code == 403
        assert "only the platform can enable it" in full.text
        await site.service.admin.RevokeKey(key_id=key_id)
        await full.open(f"{path}/disable")
        assert "does not work in any case" in full.text
        full.page = await full.http.post(f"{path}/enable", data=stale)
        assert full.page.status_code == 409
    reader = await site.service.admin.CreateSession(owner_id="acme", scopes=["keys:read"])
    other = await site.service.admin.CreateSession(owner_id="other", scopes=["full_access"])
    async with site.browser() as browser:
        for token, expected in ((reader.session_token, 403), (other.session_token, 404)):
            browser.http.cookies.set("authsvc", token, domain="127.0.0.1")
            await browser.open(f"{path}/disable")
            assert browser.page.status_code == expected
            await browser.open(path)
            assert _offered(browser, key_id) == set()


@pytest.mark.parametrize("action", ["disable", "enable"])
async def test_a_forged_form_changes_nothing(site: Site, action: str) -> None:
    key_id = await _made(site)
    if action == "enable":
        await site.service.admin.DisableKey(key_id=key_id)
    before = await site.service.admin.GetKey(key_id=key_id)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{key_id}/revoke")  # the token of another form
        answer = await browser.http.post(f"/keys/{key_id}/{action}", data={**browser.form(), "until": "hour"})
        assert answer.status_code == 403
        if action == "enable":
            assert (await browser.http.get(f"/keys/{key_id}/enable")).status_code == 404
    assert await site.service.admin.GetKey(key_id=key_id) == before
