"""Every page in Chromium: accessible, without scripts, in 320 pixels, light and dark."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import resources_pb2
from tests.web.console.chromium import NARROW, WIDE, accessible, chromium, fits, page_of, picture, sign_in
from tests.web.console.conftest import USER_AGENT, Site

_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "curl/8.9.1",
)


async def _filled(site: Site) -> dict[str, str]:
    """Give the owner `acme` keys in all states, devices, a policy and a webhook; return the ids."""
    service, admin = site.service, site.service.admin
    contact = resources_pb2.TechnicalContact(name="Ada Lovelace", email="ada@example.org")
    made = {}

    async def create(name: str, days: int = 0, **fields: object) -> object:
        ttl = {"ttl": Duration(seconds=days * 86400)} if days else {}
        answer = await admin.CreateKey(owner_id="acme", display_name=name, **ttl, **fields)
        made[name] = answer.key.key_id
        return answer

    await create("Old import", 1, scopes=["orders:read"])
    await create("Leaked by accident", scopes=["orders:write"])
    await admin.RevokeKey(key_id=made["Leaked by accident"], reason="Found in a public repository")
    service.clock.advance(days=2)
    used = await create(
        "Billing",
        scopes=["orders:read", "orders:write", "reports:read"],
        technical_contacts=[contact],
        description="Charges the orders of the shop every night.\nRuns on the accounting server.",
        annotations={"team": "accounting"},
    )
    await create("Nightly report", 20, scopes=["reports:read"])
    await create("Trial of the new shop", 5, scopes=["orders:read"])
    await create("Warehouse", 200, scopes=["orders:read", "orders:write"])
    await create("Mobile app", scopes=["orders:read"])
    await admin.RevokeKey(key_id=made["Mobile app"], revoke_in=Duration(seconds=5 * 3600), reason="Replaced")
    await create("Full", scopes=["full_access", "keys:read", "keys:write", "orders:read", "sessions:read"])
    await admin.VerifyKey(key_string=used.key_string, client_ip="198.51.100.7")  # type: ignore[attr-defined]
    for agent in _AGENTS:
        for owner in ("acme", "authsvc"):
            await admin.CreateSession(owner_id=owner, user_agent=agent, ip_address="198.51.100.23")
        service.clock.advance(minutes=47)
    await admin.CreateWebhook(
        owner_id="acme", url="https://hooks.example.org/authsvc", description="Our chat"
    )
    webhooks = await admin.ListWebhooks(owner_id="acme")
    made["webhook"] = webhooks.webhooks[0].webhook_id
    await service.flush()
    return made


def _pages(made: dict[str, str]) -> dict[str, str]:
    """Return the paths of all pages that are shown, by the names of their pictures."""
    billing, leaked, trial = made["Billing"], made["Leaked by accident"], made["Trial of the new shop"]
    return {
        "account": "/",
        "keys": "/keys?owner=acme",
        "keys-none": "/keys?owner=acme&q=nothing",
        "new-key": "/keys/new?owner=acme",
        "key": f"/keys/{billing}",
        "key-revoked": f"/keys/{leaked}",
        "edit-key": f"/keys/{billing}/edit",
        "rotate-key": f"/keys/{billing}/rotate",
        "revoke-key": f"/keys/{billing}/revoke",
        "revoke-unused-key": f"/keys/{trial}/revoke",
        "delete-key": f"/keys/{leaked}/delete",
        "devices": "/devices?owner=acme",
        "devices-own": "/devices",
        "log-out-all": "/devices/log-out",
        "audit": "/audit/check?owner=acme",
        "policy": "/policy?owner=acme",
        "policy-platform": "/policy",
        "webhooks": "/webhooks?owner=acme",
        "webhook": f"/webhooks/{made['webhook']}",
        "status": "/status",
        "missing": "/nothing",
        "no-key": "/keys/key_nothing",
    }


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("look", "options"),
    [
        ("light", {"color_scheme": "light", "viewport": WIDE}),
        ("dark", {"color_scheme": "dark", "viewport": WIDE}),
        ("narrow", {"color_scheme": "light", "viewport": NARROW, "reduced_motion": "reduce"}),
    ],
)
async def test_every_page_is_accessible_and_fits(site: Site, look: str, options: dict[str, Any]) -> None:
    made = await _filled(site)
    async with (
        chromium() as browser,
        page_of(browser, site.address, user_agent=USER_AGENT, **options) as page,
    ):
        await page.goto("/sign-in")
        await accessible(page)
        await picture(page, f"sign-in-{look}")
        await sign_in(page, site.service.admin_key)
        for name, path in _pages(made).items():
            await page.goto(path)
            await accessible(page)
            await fits(page)
            await picture(page, f"{name}-{look}")
        await page.goto("/keys/new?owner=acme")
        await page.get_by_label("Name (required)").fill("Shop")
        await page.get_by_label("orders:read").check()
        await page.get_by_role("button", name="Create key").click()
        await page.get_by_role("heading", name="Save your key").wait_for()
        await accessible(page)
        await fits(page)
        await picture(page, f"save-key-{look}")
        page.once("dialog", lambda dialog: dialog.accept())  # the warning
        await page.reload()
        await accessible(page)
        await fits(page)
        await picture(page, f"already-shown-{look}")
