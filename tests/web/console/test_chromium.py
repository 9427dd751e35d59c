"""The stories in Chromium: by keyboard, without scripts, and what a browser keeps of a key."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.web.console.chromium import chromium, page_of, sign_in
from tests.web.console.conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


_NAME = "e => e.innerText || e.labels?.[0]?.innerText || ''"


async def _press_until(page: Page, name: str, *, key: str = "Tab") -> None:
    """Move the focus by the keyboard until it is on the element of this name."""
    for _ in range(80):
        await page.keyboard.press(key)
        focused = page.locator(":focus")
        if await focused.count() and name in (
            await focused.evaluate(
                "e => e.innerText || e.labels?.[0]?.innerText || e.getAttribute('aria-label') || ''"
            )
        ):
            return
    raise AssertionError(f"the keyboard does not reach {name!r} at {page.url}")


async def _create(page: Page, name: str) -> str:
    await page.goto("/keys/new?owner=acme")
    await page.get_by_label("Name (required)").fill(name)
    await page.get_by_role("button", name="Create key").click()
    await page.get_by_role("heading", name="Save your key").wait_for()
    return await page.locator("[data-secret]").inner_text()


async def _back_to_no_secret(page: Page, secret: str) -> None:
    """Press the back button; fail if that shows the secret, or if the history has it."""
    session = await page.context.new_cdp_session(page)
    history = await session.send("Page.getNavigationHistory")
    assert secret not in str(history)
    await session.send(
        "Page.navigateToHistoryEntry", {"entryId": history["entries"][history["currentIndex"] - 1]["id"]}
    )
    await expect(page.locator("[data-secret]")).to_have_count(0)
    await page.wait_for_load_state()
    assert secret not in await page.content()


async def test_the_copy_button_needs_scripts(site: Site) -> None:
    async with chromium() as browser, page_of(browser, site.address, java_script_enabled=False) as page:
        await sign_in(page, site.service.admin_key)
        await _create(page, "Billing")
        await expect(page.locator("#copy")).to_be_hidden()


async def test_a_key_is_copied_and_left(site: Site) -> None:  # rule 1
    async with (
        chromium() as browser,
        page_of(browser, site.address, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await sign_in(page, site.service.admin_key)
        secret = await _create(page, "Billing")
        assert secret not in page.url
        await page.get_by_role("button", name="Copy").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == secret
        warnings: list[str] = []

        async def stay(dialog: object) -> None:
            warnings.append(dialog.type)  # type: ignore[attr-defined]
            await dialog.dismiss()  # type: ignore[attr-defined]

        page.on("dialog", stay)
        await page.get_by_role("link", name="Devices").click()
        await expect(page.get_by_role("heading", name="Save your key")).to_be_visible()
        assert warnings == ["beforeunload"]
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("heading", name="Billing").wait_for()
        assert warnings == ["beforeunload"]
        assert secret not in await page.content()


@pytest.mark.parametrize("scripts", [True, False])
async def test_the_back_button_shows_no_key(site: Site, scripts: bool) -> None:
    async with chromium() as browser, page_of(browser, site.address, java_script_enabled=scripts) as page:
        await sign_in(page, site.service.admin_key)
        secret = await _create(page, "Billing")
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("heading", name="Billing").wait_for()
        await _back_to_no_secret(page, secret)


async def test_a_reload_shows_no_key(site: Site) -> None:
    async with chromium() as browser, page_of(browser, site.address, java_script_enabled=False) as page:
        await sign_in(page, site.service.admin_key)
        secret = await _create(page, "Billing")
        await page.reload()
        await page.get_by_role("heading", name="This key was already created").wait_for()
        assert secret not in await page.content()
        assert len((await site.service.admin.ListKeys(owner_id="acme")).keys) == 1


async def test_nothing_is_kept_in_the_browser(site: Site) -> None:
    """Neither the key of the sign-in nor a new one is in its storage, and scripts see no cookie."""
    async with chromium() as browser, page_of(browser, site.address) as page:
        await sign_in(page, site.service.admin_key)
        await _create(page, "Billing")
        kept = await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]
        [cookie] = await page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        assert re.fullmatch(r"authsvc_session_\w+", cookie["value"])


async def test_all_stories_without_scripts(site: Site) -> None:
    async with chromium() as browser, page_of(browser, site.address, java_script_enabled=False) as page:
        await sign_in(page, site.service.admin_key)
        secret = await _create(page, "Billing")
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Name (required)").fill("Accounting")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("heading", name="Accounting").wait_for()
        await page.get_by_role("link", name="Disable").click()
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.get_by_label("Until a time, in UTC").check()
        await page.get_by_label("Date and time, in UTC").fill("2090-01-31T08:30")
        await page.get_by_role("button", name="Disable key").click()
        await page.get_by_text("Disabled until 2090-01-31 08:30 UTC").wait_for()
        assert not (await site.service.admin.VerifyKey(key_string=secret)).valid
        await page.get_by_role("button", name="Enable").click()
        await page.get_by_text("The key is enabled").wait_for()
        assert (await site.service.admin.VerifyKey(key_string=secret)).valid
        await page.get_by_role("link", name="Rotate").click()
        await page.get_by_label("At once").check()
        await page.get_by_role("button", name="Rotate key").click()
        rotated = await page.locator("[data-secret]").inner_text()
        assert not (await site.service.admin.VerifyKey(key_string=secret)).valid
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_role("link", name="Revoke").click()
        await page.get_by_label("Reason").fill("No longer needed")
        await page.get_by_role("button", name="Revoke key").click()
        await page.get_by_text("The key is revoked").wait_for()
        assert not (await site.service.admin.VerifyKey(key_string=rotated)).valid
        await page.get_by_role("link", name="Delete").click()
        await page.get_by_role("button", name="Delete key").click()
        await page.get_by_text("The key is deleted").wait_for()
        await page.goto("/devices")
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_text("You are signed out").wait_for()


async def test_all_stories_by_keyboard(site: Site) -> None:
    async with chromium() as browser, page_of(browser, site.address) as page:
        await page.goto("/sign-in")
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(site.service.admin_key)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Sign out").wait_for()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.goto("/keys?owner=acme")
        await _press_until(page, "Create a key")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Create an API key").wait_for()
        await _press_until(page, "Name (required)")
        await page.keyboard.type("Billing")
        await _press_until(page, "orders:read")
        await page.keyboard.press("Space")
        await _press_until(page, "In 1 year")
        await page.keyboard.press("ArrowDown")  # Unlimited
        await _press_until(page, "Create key")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Save your key").wait_for()
        secret = await page.locator("[data-secret]").inner_text()
        await _press_until(page, "I have copied it")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Billing").wait_for()
        [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
        assert list(key.scopes) == ["orders:read"]
        assert not key.HasField("expire_time")
        await _press_until(page, "Revoke")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Revoke Billing?").wait_for()
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await _press_until(page, "Revoke key", key="Shift+Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("The key is revoked").wait_for()
        assert not (await site.service.admin.VerifyKey(key_string=secret)).valid
        await _press_until(page, "Devices")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Devices").wait_for()
        await _press_until(page, "Sign out")
        await page.keyboard.press("Enter")
        await page.get_by_text("You are signed out").wait_for()


async def test_another_site_can_neither_frame_nor_send(site: Site) -> None:
    """A page of another origin, with the cookie of whoever is signed in, in a real browser."""
    async with chromium() as browser, page_of(browser, site.address) as page:
        await sign_in(page, site.service.admin_key)
        await page.route(
            "http://evil.example/",
            lambda route: route.fulfill(
                content_type="text/html",
                body=f"<iframe src='{site.address}/keys'></iframe>"
                f"<form method=post action='{site.address}/keys/new'><input name=name value=Forged>"
                "<input name=owner value=acme><input name=expiry value=unlimited><button>Win</button></form>",
            ),
        )
        await page.goto("http://evil.example/")
        await page.wait_for_load_state()
        [frame] = page.frames[1:]
        assert "API keys" not in await frame.content()
        await page.get_by_role("button", name="Win").click()
        await page.wait_for_url("**/sign-in")  # without the cookie, nobody was signed in
        assert not (await site.service.admin.ListKeys(owner_id="acme")).keys


async def test_a_policy_and_a_webhook_without_scripts(site: Site) -> None:
    """Also: neither a reload nor the back button shows the secret again."""
    admin = site.service.admin
    async with chromium() as browser, page_of(browser, site.address, java_script_enabled=False) as page:
        await sign_in(page, site.service.admin_key)
        await page.goto("/policy?owner=acme")
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Longest lifetime of a key", exact=True).fill("90")
        await page.get_by_label("API keys of acme work").uncheck()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_label("Switch off the keys of acme").check()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("The policy is saved").wait_for()
        policy = await admin.GetOwnerPolicy(owner_id="acme")
        assert policy.max_key_lifetime.seconds == 90 * 86400
        assert not policy.keys_enabled
        await page.goto("/webhooks?owner=acme")
        await page.get_by_role("link", name="Create a webhook").click()
        await page.get_by_label("URL (required)").fill("https://hooks.example.org/")
        await page.get_by_label("All, also those of later versions").check()
        await page.get_by_role("button", name="Create webhook").click()
        secret = await page.locator("[data-secret]").inner_text()
        await page.reload()
        await page.get_by_role("heading", name="This webhook was already created").wait_for()
        assert secret not in await page.content()
        await page.get_by_role("link", name="Rotate secret").click()
        await page.get_by_label("After 1 hour").check()
        await page.get_by_role("button", name="Rotate secret").click()
        rotated = await page.locator("[data-secret]").inner_text()
        assert rotated != secret
        await page.get_by_role("link", name="I have copied it").click()
        await page.get_by_text("signed with the old secret as well").wait_for()
        await _back_to_no_secret(page, rotated)
        [webhook] = (await admin.ListWebhooks(owner_id="acme")).webhooks
        await page.goto(f"/webhooks/{webhook.webhook_id}")
        await page.get_by_role("button", name="Send a test").click()
        await page.get_by_text("The test was not delivered").wait_for()
        await page.get_by_role("link", name="Delete").click()
        await page.get_by_role("button", name="Delete webhook").click()
        await page.get_by_text("The webhook is deleted").wait_for()


async def test_a_webhook_and_annotations_by_keyboard(site: Site) -> None:
    """Enter saves a form, also where its first button adds a row."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing", annotations={"team": "sales"})
    async with chromium() as browser, page_of(browser, site.address) as page:
        await sign_in(page, site.service.admin_key)
        await page.goto("/webhooks/new?owner=acme")
        await _press_until(page, "URL (required)")
        await page.keyboard.type("https://hooks.example.org/")
        await _press_until(page, "All, also those of later versions")
        await page.keyboard.press("ArrowDown")  # Only these
        await _press_until(page, "key.revoked")
        await page.keyboard.press("Space")
        await _press_until(page, "Name of contact 1")
        await page.keyboard.type("Ada")
        await page.keyboard.press("Tab")
        await page.keyboard.type("ada@example.org")
        await page.keyboard.press("Enter")
        secret = await page.locator("[data-secret]").inner_text()
        kept = await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]
        await _press_until(page, "I have copied it")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="https://hooks.example.org/").wait_for()
        await _back_to_no_secret(page, secret)
        [webhook] = (await admin.ListWebhooks(owner_id="acme")).webhooks
        assert list(webhook.event_types) == ["key.revoked"]
        await page.goto(f"/keys/{made.key.key_id}/edit")
        await _press_until(page, "Name of annotation 2")
        await page.keyboard.type("region")
        await page.keyboard.press("Tab")
        await page.keyboard.type("eu")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("The changes are saved").wait_for()
        key = await admin.GetKey(key_id=made.key.key_id)
        assert dict(key.annotations) == {"team": "sales", "region": "eu"}
