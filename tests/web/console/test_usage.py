"""Who uses a key: on its page, before it is revoked, and before its networks are changed."""

from datetime import timedelta
from typing import Any

from authsvc.v1.resources_pb2 import Key
from tests.web.console.conftest import Site

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
        assert "Nobody, as far as is counted." in browser.text
        await used(site, made)
        await used(site, made, "", "<b>x</b>/1")
        await browser.open(f"/keys/{made.key.key_id}", owner="acme")
        for text in ("administrator", "<code>192.0.2.0/24</code>", "curl/8.5", "not given"):
            assert text in browser.page.text
        assert "<b>x</b>" not in browser.page.text


async def test_a_revocation_shows_who_would_be_cut_off_and_is_of_that_only(site: Site) -> None:
    """What has changed since the page was shown is shown first; then it can be revoked."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    path = f"/keys/{made.key.key_id}"
    await used(site, made)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/revoke", owner="acme")
        assert "192.0.2.0/24" in browser.page.text
        assert "0 keys and 0 sessions" in browser.text
        await used(site, made, ELSEWHERE)
        await browser.send(reason="old", typed="Billing")
        assert browser.page.status_code == 409
        assert "What is shown below has changed since" in browser.text
        assert "198.51.100.0/24" in browser.page.text
        assert not (await admin.GetKey(key_id=made.key.key_id)).HasField("revoke_time")
        await browser.send(reason="old", typed="Billing")
        assert (await admin.GetKey(key_id=made.key.key_id)).HasField("revoke_time")


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
