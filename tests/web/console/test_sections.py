"""Devices, the audit log, the policy, webhooks and the status over plain HTTP."""

import re

from authsvc.web.console.texts import Texts
from tests.conftest import Clock
from tests.web.console.conftest import Site

_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0"


async def test_the_device_that_asks_comes_first(site: Site, clock: Clock) -> None:  # rule 24
    async with site.browser(site.service.admin_key) as browser:
        clock.advance(minutes=5)
        for number in range(30):
            clock.advance(seconds=1)
            await site.service.admin.CreateSession(
                owner_id="authsvc", user_agent=_FIREFOX, ip_address=f"198.51.100.{number}"
            )
        await browser.open("/devices")
        names = re.findall(r'role="rowheader"><bdi>([^<]*)<', browser.page.text)
        assert names[0] == "Chrome 131"
        assert set(names[1:]) == {"Firefox 131"}
        assert browser.text.count("This device") == 1
        assert "198.51.100.29" in browser.text


async def test_devices_are_logged_out(site: Site) -> None:  # rules 25, 26
    admin = site.service.admin
    one = await admin.CreateSession(owner_id="authsvc")
    two = await admin.CreateSession(owner_id="authsvc")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/devices")
        await browser.send(f"/devices/{one.session.session_id}/log-out")
        assert "The device is logged out" in browser.text
        assert not (await admin.VerifySession(session_token=one.session_token)).valid
        assert (await admin.VerifySession(session_token=two.session_token)).valid
        await browser.open("/devices/log-out", keep="this")
        await browser.send("/devices/log-out")
        assert "All other devices are logged out" in browser.text
        assert not (await admin.VerifySession(session_token=two.session_token)).valid
        await browser.open("/devices/log-out")
        await browser.send("/devices/log-out")
        assert browser.page.url.path == "/sign-in"
        assert "You are signed out" in browser.text
    assert (await admin.VerifyKey(key_string=site.service.admin_key)).valid


async def test_logging_out_the_own_device_signs_out(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/devices")
        path = re.search(r'action="(/devices/ses_[^"]*)"', browser.page.text)
        assert path is not None
        await browser.send(path[1])
        assert "You are signed out" in browser.text


async def test_the_platform_logs_out_the_devices_of_an_owner(site: Site) -> None:
    opened = await site.service.admin.CreateSession(owner_id="acme")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/devices/log-out", owner="acme", keep="this")
        await browser.send("/devices/log-out")
        assert "All devices are logged out" in browser.text
        assert not (await site.service.admin.VerifySession(session_token=opened.session_token)).valid
        await browser.open("/keys")
        assert browser.page.url.path == "/keys"


async def test_the_audit_log_has_filters(site: Site) -> None:  # rule 28
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    await admin.RevokeKey(key_id=made.key.key_id, reason="Leaked")
    await admin.CreateSession(owner_id="acme")
    async with site.browser(site.service.admin_key) as browser:

        async def shown(**fields: str) -> list[str]:
            await browser.open("/audit", owner="acme", **fields)
            return re.findall(r'role="rowheader">([^<]*)<', browser.page.text)

        assert await shown() == ["Signed in", "Key revoked", "Key created"]
        assert "Leaked" in browser.text
        assert await shown(action="KEY_REVOKED") == ["Key revoked"]
        assert await shown(target=made.key.key_id) == ["Key revoked", "Key created"]
        assert await shown(actor="nobody") == []
        assert await shown(after="2026-11-21", before="2026-11-21") != []
        assert await shown(after="2026-11-22") == []
        assert await shown(before="2026-11-20") == []


async def test_days_at_the_ends_of_the_calendar(site: Site) -> None:
    """What cannot be counted from is no date, so it filters nothing."""
    await site.service.admin.CreateKey(owner_id="acme", display_name="Billing", ttl={"seconds": 86400})
    async with site.browser(site.service.admin_key) as browser:
        for day in ("9999-12-31", "0001-01-01"):
            for path in (
                "/audit?after=",
                "/audit?before=",
                "/keys?unused=365&day=",
                "/keys?expiring=90&day=",
            ):
                await browser.open(path + day)
                assert browser.page.status_code == 200, (path, day)
        await browser.open("/audit?owner=acme&before=9999-12-31")
        assert "Key created" in browser.text
        await browser.open("/keys?owner=acme&expiring=7&day=9999-12-31")
        assert "Billing" in browser.text


async def test_a_chain_that_was_tampered_with_is_told(site: Site) -> None:
    admin = site.service.admin
    for number in range(3):
        await admin.CreateKey(owner_id="acme", display_name=f"Key {number}")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/audit/check", owner="acme")
        assert "The chain is whole: the newest 3 events" in browser.text
        async with site.service.app.database.connection() as connection:
            await connection.execute(
                "UPDATE authsvc.audit_events SET actor_id = 'x' WHERE owner_id = 'acme' AND position = 2"
            )
        await browser.open("/audit/check", owner="acme")
        assert "broken at position 2" in browser.text


async def test_workers_are_shown_to_the_platform_only(site: Site) -> None:
    scopes = ["replicas:read", "sessions:write", "webhooks:read"]
    own = await site.service.admin.CreateKey(owner_id="acme", display_name="Own", scopes=scopes)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/status")
        assert "Serving" in browser.text
    async with site.browser(own.key_string) as browser:
        assert 'href="/status"' not in browser.page.text
        await browser.open("/status")
        assert browser.page.status_code == 403
        await browser.open("/webhooks")
        assert "There are no webhooks" in browser.text


async def test_the_console_in_another_language() -> None:
    """A catalogue has all texts, so another one with the same names is another language."""
    texts = Texts('[keys]\ntitle = "Schlüssel von {owner}"\n')
    assert texts("keys.title", owner="<b>") == "Schlüssel von &lt;b&gt;"
