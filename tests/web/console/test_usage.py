"""Who uses a key: on its page, before it is revoked, and before its networks are changed."""

import re
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.v1.resources_pb2 import Key
from tests.web.console.conftest import Browser, Site

IP, ELSEWHERE = "192.0.2.7", "198.51.100.9"


async def used(site: Site, made: Any, client_ip: str = IP, agent: str = "curl/8.5.0") -> None:
    admin = site.service.admin
    await admin.VerifyKey(key_string=made.key_string, client_ip=client_ip, user_agent=agent)
    await site.service.flush()


async def test_who_uses_a_key(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}", owner="acme")
        assert "No use was counted." in browser.text
        await used(site, made)
        await used(site, made, "", "<b>x</b>/1")
        await browser.open(f"/keys/{made.key.key_id}", owner="acme")
        for text in ("administrator", "<code>192.0.2.0/24</code>", "curl/8.5", "not given"):
            assert text in browser.page.text
        assert "<b>x</b>" not in browser.page.text


async def test_a_revocation_shows_who_would_be_cut_off_and_is_of_that_only(site: Site) -> None:
    """What has changed since the page was shown is shown first; then the key is revoked whatever changes."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    path = f"/keys/{made.key.key_id}"
    await used(site, made)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/revoke", owner="acme")
        assert "192.0.2.0/24" in browser.page.text
        assert "Keys: 0, signed-in devices: 0." in browser.text
        assert _new_networks(browser) == []
        await used(site, made, agent="wget/1.2")  # by whom the etag does not change
        await used(site, made, ELSEWHERE)
        await browser.send(reason="old", typed="Billing")
        assert browser.page.status_code == 409
        assert "The key, or who uses it, has changed since this page was shown." in browser.text
        assert "The key was changed" not in browser.text
        assert _new_networks(browser) == ["198.51.100.0/24"]
        assert "Revoke all the same" in browser.text
        assert not (await admin.GetKey(key_id=made.key.key_id)).HasField("revoke_time")
        await browser.send(reason="old", typed="Billing")
        assert (await admin.GetKey(key_id=made.key.key_id)).HasField("revoke_time")


@pytest.mark.parametrize("cascade", ["", "1"])
async def test_new_networks_do_not_keep_a_key_from_being_revoked(site: Site, cascade: str) -> None:
    """Whoever has stolen it uses it from another one each time somebody is about to revoke it."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing", scopes=["keys:write"])
    await used(site, made)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/revoke", owner="acme")
        await used(site, made, "198.51.100.1")
        await browser.send(typed="Billing", cascade=cascade)
        assert browser.page.status_code == 409
        await used(site, made, "203.0.113.1")
        await browser.send(typed="Biling")
        assert "This is not the name" in browser.text
        await used(site, made, "198.18.0.1")
        await browser.send(typed="Billing")
        assert "The key is revoked" in browser.text
    assert not (await admin.VerifyKey(key_string=made.key_string)).valid


async def test_a_key_that_was_changed_meanwhile_is_shown_before_it_is_revoked(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/revoke", owner="acme")
        made.key.description = "The only one of the shop"
        await admin.UpdateKey(key=made.key, update_mask=FieldMask(paths=["description"]))
        await browser.send()
        assert browser.page.status_code == 409
        assert "The key was changed" in browser.text
        assert "not shown before" not in browser.text
        await browser.send()
        assert "The key is revoked" in browser.text


def _new_networks(browser: Browser) -> list[str]:
    """Return the networks of the rows that are marked as new."""
    rows = re.findall(r'<tr role="row">\s*<th scope="row".*?</tr>', browser.page.text, re.DOTALL)
    return [
        network[1]
        for row in rows
        if "not shown before" in row and (network := re.search(r"<code>([0-9a-f.:]+/\d+)</code>", row))
    ]


async def test_a_successor_is_shown(site: Site) -> None:
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    new = await admin.RotateKey(key_id=made.key.key_id, grace_period=timedelta(days=9))
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/revoke", owner="acme")
        assert new.key.key_id in browser.page.text
        assert "was never used" in browser.text
        await used(site, new)
        await browser.open(f"/keys/{made.key.key_id}/revoke", owner="acme")
        assert "was never used" not in browser.text


async def test_networks_that_refuse_somebody_are_confirmed_first(site: Site) -> None:
    """The box confirms these networks, and no others; of keys and of policies."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    await used(site, made)
    await used(site, made, ELSEWHERE)

    async def networks(path: str) -> list[str]:
        key: Key = await admin.GetKey(key_id=made.key.key_id)
        policy = await admin.GetOwnerPolicy(owner_id="acme")
        return list(policy.allowed_networks if path == "/policy/edit" else key.allowed_networks)

    async with site.browser(site.service.admin_key) as browser:
        for path in (f"/keys/{made.key.key_id}/edit", "/policy/edit"):
            await browser.open(path, owner="acme")
            assert "networks_confirmed" not in browser.page.text
            await browser.send(allowed_networks="192.0.2.0/28\r\n10.0.0.0/8")
            assert browser.page.status_code == 400
            for text in ("192.0.2.0/24", "would be refused in part.", "198.51.100.0/24", "Save all the same"):
                assert text in browser.text
            await browser.send(allowed_networks="10.0.0.0/8", networks_confirmed="192.0.2.0/28,10.0.0.0/8")
            assert browser.page.status_code == 400
            assert await networks(path) == []
            await browser.send(allowed_networks="10.0.0.0/8", networks_confirmed="10.0.0.0/8")
            assert await networks(path) == ["10.0.0.0/8"]
            await browser.open(path, owner="acme")
            await browser.send(allowed_networks="192.0.2.0/24\r\n198.51.100.0/24")
            assert await networks(path) == ["192.0.2.0/24", "198.51.100.0/24"]
