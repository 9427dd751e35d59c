"""Every page in Chromium: accessible, without scripts, in 320 pixels, light and dark."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from playwright.async_api import Page

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from tests import age
from tests.web.console.chromium import NARROW, WIDE, accessible, chromium, fits, page_of, picture, sign_in
from tests.web.console.conftest import USER_AGENT, Site

_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "curl/8.9.1",
)


async def _filled(site: Site, database_url: str) -> dict[str, str]:
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
    await create("Partner", scopes=["orders:read"], allowed_networks=["192.0.2.0/24", "2001:db8::/48"])
    until = Timestamp()
    until.FromDatetime(service.clock.now + timedelta(days=7))
    await admin.DisableKey(key_id=made["Partner"], disabled_until=until, reason="Who uses it?")
    await create("Full", scopes=["full_access", "keys:read", "keys:write", "orders:read", "sessions:read"])
    await admin.VerifyKey(key_string=used.key_string, client_ip="198.51.100.7")  # type: ignore[attr-defined]
    for agent in _AGENTS:
        for owner in ("acme", "authsvc"):
            await admin.CreateSession(owner_id=owner, user_agent=agent, ip_address="198.51.100.23")
        service.clock.advance(minutes=47)
    await _told(site, database_url, made, contact)
    await service.flush()
    return made


async def _told(
    site: Site, database_url: str, made: dict[str, str], contact: resources_pb2.TechnicalContact
) -> None:
    """Give the owner a policy of its own, and webhooks in some states with deliveries."""
    admin = site.service.admin
    policy = policy_pb.OwnerPolicy(
        owner_id="acme",
        max_active_keys=20,
        allowed_scopes=["orders:read", "orders:write", "reports:read"],
        max_key_lifetime=Duration(seconds=365 * 86400),
        key_edits=policy_pb.KEY_EDITS_ALL,
        rotation_period=Duration(seconds=90 * 86400),
    )
    fields = ("max_active_keys", "allowed_scopes", "max_key_lifetime", "key_edits", "rotation_period")
    await admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=fields))
    async with site.service.app.database.connection() as earlier:
        await earlier.execute("DELETE FROM authsvc.notifications")
    webhooks: dict[str, dict[str, Any]] = {
        "webhook": {"description": "Our chat", "event_types": ["key.created", "key.revoked"]},
        "gone": {"url": "https://old.example.org/", "technical_contacts": [contact]},
    }
    for name, given in webhooks.items():
        answer = await admin.CreateWebhook(
            owner_id="acme", **{"url": "https://hooks.example.org/authsvc", **given}
        )
        made[name] = answer.webhook.webhook_id
    for number in range(2):  # what is told
        ttl = Duration(seconds=86400)
        changed = await admin.CreateKey(owner_id="acme", display_name="Short", ttl=ttl)
        site.service.clock.advance(minutes=13 * (number + 1))
        await admin.RevokeKey(key_id=changed.key.key_id)
        await admin.DeleteKey(key_id=changed.key.key_id)
        await site.service.notifier.spread.work()
    await _sent(database_url, made["gone"], site.service.clock.now)


async def _sent(database_url: str, gone_id: str, now: datetime) -> None:
    """Let some deliveries have been made, and some have failed."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE authsvc.webhook_deliveries SET attempt_count = 1, attempt_time = create_time, "
        "state = 'delivered', response_status = 204 WHERE create_time < (SELECT max(create_time) FROM "
        "authsvc.webhook_deliveries)"
    )
    await connection.execute(
        "UPDATE authsvc.webhook_deliveries SET attempt_count = 12, state = 'failed', response_status = 500, "
        "error = 'answered 500' WHERE delivery_id IN (SELECT max(delivery_id) FROM "
        "authsvc.webhook_deliveries WHERE state = 'delivered' GROUP BY webhook_id)"
    )
    await connection.execute(
        "UPDATE authsvc.webhooks SET enabled = false, disable_reason = 'failing', failing_since = $1 "
        "WHERE webhook_id = $2",
        now - timedelta(days=5),
        gone_id,
    )
    await connection.close()


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
        "key-disabled": f"/keys/{made['Partner']}",
        "disable-key": f"/keys/{billing}/disable",
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
        "edit-policy": "/policy/edit?owner=acme",
        "webhooks": "/webhooks?owner=acme",
        "webhook": f"/webhooks/{made['webhook']}",
        "webhook-disabled": f"/webhooks/{made['gone']}",
        "new-webhook": "/webhooks/new",
        "edit-webhook": f"/webhooks/{made['webhook']}/edit",
        "rotate-webhook": f"/webhooks/{made['webhook']}/rotate",
        "delete-webhook": f"/webhooks/{made['webhook']}/delete",
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
async def test_every_page_is_accessible_and_fits(
    site: Site, database_url: str, look: str, options: dict[str, Any]
) -> None:
    made = await _filled(site, database_url)
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
            await _looked_at(page, f"{name}-{look}")
        await page.goto("/keys/new?owner=acme")
        await page.get_by_label("Name (required)").fill("Shop")
        await page.get_by_label("orders:read").check()
        await page.get_by_role("button", name="Create key").click()
        await page.get_by_role("heading", name="Save your key").wait_for()
        await _looked_at(page, f"save-key-{look}")
        page.once("dialog", lambda dialog: dialog.accept())  # the warning
        await page.reload()
        await _looked_at(page, f"already-shown-{look}")
        await _refused(page, made, look)
        await _revoked_in_the_end(page, made["Full"], look)


async def _refused(page: Page, made: dict[str, str], look: str) -> None:
    """Look at forms that come back: with errors, a question, or a change by somebody else."""
    await page.goto(f"/keys/{made['Billing']}/edit")
    await page.get_by_label("Name of annotation 2").fill("not a name")
    await page.get_by_label("Allowed networks").fill("192.0.2.0/24\n" + "nonsense" * 9)
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("This could not be done").wait_for()
    await page.get_by_text("Line 2:").wait_for()
    await _looked_at(page, f"edit-key-refused-{look}")
    await page.goto(f"/keys/{made['Warehouse']}/rotate")
    await page.get_by_label("Seal to").fill(age.Recipient().public)
    await page.get_by_role("button", name="Rotate key").click()
    await page.get_by_role("heading", name="Save your sealed key").wait_for()
    await _looked_at(page, f"save-sealed-key-{look}")
    page.once("dialog", lambda dialog: dialog.accept())
    await page.goto("/policy/edit?owner=acme")
    other = await page.context.new_page()
    await other.goto("/policy/edit?owner=acme")
    await other.get_by_label("Beginning of key strings").fill("acme")
    await other.get_by_role("button", name="Save").click()
    await other.get_by_text("The policy is saved").wait_for()
    await other.close()
    await page.get_by_label("API keys of acme work").uncheck()
    await page.get_by_label("Active keys at most").fill("0")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("Type a whole number").first.wait_for()
    await page.get_by_label("Active keys at most").fill("10")
    await page.get_by_label("Switch off the keys").check()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("Somebody else has changed this").wait_for()
    await _looked_at(page, f"edit-policy-refused-{look}")
    await page.goto("/webhooks/new?owner=acme")
    await page.get_by_label("URL (required)").fill("https://hooks.example.org/another")
    await page.get_by_label("All, also those of later versions").check()
    await page.get_by_role("button", name="Create webhook").click()
    await page.get_by_role("heading", name="Save the secret").wait_for()
    await _looked_at(page, f"save-webhook-{look}")
    page.once("dialog", lambda dialog: dialog.accept())
    await page.reload()
    await _looked_at(page, f"webhook-already-shown-{look}")


async def _revoked_in_the_end(page: Page, key_id: str, look: str) -> None:
    """Look at the revocation of a key that was changed meanwhile, and at what is offered afterwards."""
    await page.goto(f"/keys/{key_id}/revoke")
    other = await page.context.new_page()
    await other.goto(f"/keys/{key_id}/edit")
    await other.get_by_label("Description").fill("May do everything")
    await other.get_by_role("button", name="Save").click()
    await other.get_by_text("The changes are saved").wait_for()
    await other.close()
    await page.get_by_role("button", name="Revoke key").click()
    await page.get_by_text("has changed since this page was shown").wait_for()
    await _looked_at(page, f"revoke-key-outdated-{look}")
    await page.get_by_role("button", name="Revoke all the same").click()
    await page.get_by_text("The key is revoked").wait_for()
    await page.get_by_role("link", name="End what it created").click()
    await page.get_by_role("heading", name="End what Full created?").wait_for()
    await _looked_at(page, f"end-created-{look}")


async def _looked_at(page: Page, name: str) -> None:
    await accessible(page)
    await fits(page)
    await picture(page, name)
