"""Chromium, as people have it: with and without scripts, narrow and wide, light and dark."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

# Where the pictures of docs/console.md are written, if anywhere.
_PICTURES = os.environ.get("AUTHSVC_PICTURES", "")
_AXE = files("axe_playwright_python").joinpath("axe.min.js")
# For a busy machine.
_PATIENCE_MS = 60_000
expect.set_options(timeout=_PATIENCE_MS)
#: What the narrowest telephones have.
NARROW = {"width": 320, "height": 640}
WIDE = {"width": 1280, "height": 800}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium. Without it, the test is skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium: apt-get install --no-install-recommends chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(browser: Browser, address: str, **options: Any) -> AsyncIterator[Page]:
    """Yield a page of a new user. A page that breaks its own policy, or raises, fails the test."""
    context = await browser.new_context(base_url=address, **{"viewport": WIDE, **options})
    context.set_default_timeout(_PATIENCE_MS)
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None
    )
    try:
        yield page
    finally:
        await context.close()
    assert faults == []


async def sign_in(page: Page, key_string: str) -> None:
    await page.goto("/sign-in")
    await page.get_by_label("API key").fill(key_string)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Sign out").wait_for()


async def accessible(page: Page) -> None:
    """Fail for what axe finds wrong."""
    await page.evaluate(_AXE.read_text("utf-8"))
    found = await page.evaluate("axe.run()")
    assert found["passes"]
    wrong = [
        (each["id"], each["help"], [node["html"] for node in each["nodes"]][:3])
        for each in found["violations"]
    ]
    assert wrong == [], page.url


async def fits(page: Page) -> None:
    """Fail for a page that is wider than its window."""
    width, room = await page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= room, f"{page.url} is {width} pixels wide, and has {room}"


async def picture(page: Page, name: str) -> None:
    """Keep a picture of the page for the documents, if somebody wants them."""
    if _PICTURES:
        await page.screenshot(path=Path(_PICTURES) / f"{name}.png", full_page=True)
