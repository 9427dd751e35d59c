"""From the sign-in to the revocation of a key."""

import re

from tests.web.console.conftest import Site


async def test_a_key_from_its_creation_to_its_revocation(site: Site) -> None:  # rules 1, 2, 16
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Billing", scope=["orders:read"])
        assert browser.page.status_code == 200
        key_string = re.search(r"data-secret>([^<]+)<", browser.page.text)
        assert key_string is not None
        assert "Save your key" in browser.text
        verdict = await site.service.admin.VerifyKey(key_string=key_string[1])
        assert verdict.valid
        await browser.open("/keys", owner="acme")
        assert "Billing" in browser.text
        await browser.open(f"/keys/{verdict.key_id}")
        assert "Active" in browser.text
        await browser.open(f"/keys/{verdict.key_id}/revoke")
        await browser.send(reason="No longer needed", typed="Billing")
        assert "The key is revoked" in browser.text
        assert not (await site.service.admin.VerifyKey(key_string=key_string[1])).valid
