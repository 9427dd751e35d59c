"""Staff signs in at an OpenID provider of others: the example of zitadel/oidc, a certified library in Go.

It sends the claims of a person only when it is asked for them.
"""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from authsvc.web.console.oidc.client import CALLBACK
from tests.conftest import Service, serving
from tests.e2e.process import free_port
from tests.lane.tools import tool
from tests.web.console.chromium import accessible, chromium, fits, page_of, picture
from tests.web.console.conftest import Browser, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_USER, _OTHER, _PASSWORD = "test-user@localhost", "test-user2", "verysecure"
_CONNECT_SECONDS = 30


@dataclass
class _Provider:
    issuer: str
    client_id: str
    secret: str


@asynccontextmanager
async def _provider(checkout: Path, redirect_uri: str, client_id: str, log: Path) -> AsyncIterator[_Provider]:
    port = free_port()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            tool(checkout, "openid/server"),
            env={"PORT": str(port), "REDIRECT_URI": redirect_uri},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            while not await _listens(port):
                assert process.returncode is None, f"see {log}"
        yield _Provider(f"http://localhost:{port}/", client_id, "secret" if client_id == "web" else "")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.05)
        return False
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def _site(
    database_url: str, checkout: Path, directory: Path, client_id: str = "web", **settings: Any
) -> AsyncIterator[Site]:
    """Yield the console of a service whose settings name the provider."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    key, secret = directory / "key", directory / "secret"
    key.write_text("not yet")
    async with _provider(checkout, address + CALLBACK, client_id, directory / "log") as provider:
        if provider.secret:
            secret.write_text(f"{provider.secret}\n")
        async with serving(
            database_url,
            None,
            web_listen=f"127.0.0.1:{port}",
            console_url=address,
            console_oidc_issuer=provider.issuer,
            console_oidc_client_id=provider.client_id,
            console_oidc_client_secret_file=secret if provider.secret else None,
            console_oidc_key_file=key,
            console_oidc_roles=f'{{"{_USER}": ["full_access"]}}',
            console_oidc_roles_claim="preferred_username",
            console_oidc_name="Zitadel",
            **settings,
        ) as service:
            await _rewrite(service, key, service.admin_key)
            yield Site(service, address)


async def _rewrite(service: Service, file: Path, secret: str) -> None:
    await asyncio.to_thread(file.write_text, secret)
    assert service.app.oidc_secrets is not None
    await service.app.oidc_secrets.look()


async def _sign_in(browser: Browser, user: str, page: str = "/keys") -> None:
    """Fill in the form of the provider."""
    await browser.open("/sign-in/oidc", next=page)
    assert browser.page.url.host == "localhost", browser.text
    request_id = re.search(r'name="id" value="([^"]+)"', browser.page.text)
    assert request_id is not None
    form = {"id": request_id[1], "username": user, "password": _PASSWORD}
    browser.page = await browser.http.post(browser.page.url.join("/login/username"), data=form)


@pytest.mark.parametrize("client_id", ["web", "native"])
async def test_signing_in(database_url: str, checkout: Path, tmp_path: Path, client_id: str) -> None:
    """As a client with a secret, and as a public one."""
    async with _site(database_url, checkout, tmp_path, client_id) as site, site.browser() as browser:
        await _sign_in(browser, _USER)
        assert browser.page.status_code == 200, browser.text
        assert browser.page.url.path == "/keys"
        await browser.open("/")
        assert "test-user@zitadel.ch" in browser.text
        [session] = (await site.service.admin.ListSessions(owner_id="authsvc")).sessions
        assert list(session.scopes) == ["full_access"]
        assert session.annotations["oidc-subject"] == "id1"


async def test_a_code_counts_once(database_url: str, checkout: Path, tmp_path: Path) -> None:
    async with _site(database_url, checkout, tmp_path) as site, site.browser() as browser:
        await browser.open("/sign-in/oidc")
        kept = browser.http.cookies["authsvc-oidc"]
        request_id = re.search(r'name="id" value="([^"]+)"', browser.page.text)
        assert request_id is not None
        form = {"id": request_id[1], "username": _USER, "password": _PASSWORD}
        done = await browser.http.post(browser.page.url.join("/login/username"), data=form)
        [callback] = [answer.url for answer in done.history if answer.url.path == CALLBACK]
        browser.http.cookies.set("authsvc-oidc", kept, domain="127.0.0.1")
        await browser.open(str(callback))
        assert browser.page.status_code == 403
        assert "not accepted" in browser.text


async def test_somebody_without_a_role(database_url: str, checkout: Path, tmp_path: Path) -> None:
    async with _site(database_url, checkout, tmp_path) as site, site.browser() as browser:
        await _sign_in(browser, _OTHER)
        assert browser.page.status_code == 403
        assert "You have no access to this console" in browser.text
        assert "authsvc" not in browser.http.cookies


async def test_a_wrong_client_secret(
    database_url: str, checkout: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _site(database_url, checkout, tmp_path) as site, site.browser() as browser:
        await _rewrite(site.service, tmp_path / "secret", "another")
        await _sign_in(browser, _USER)
        assert browser.page.status_code == 502
        assert "asked for tokens, the provider answered" in caplog.text
        assert "another" not in caplog.text.replace(str(tmp_path), "")


async def test_in_chromium(database_url: str, checkout: Path, tmp_path: Path) -> None:
    """No policy of ours is in the way of the redirects to the provider and back."""
    async with (
        _site(database_url, checkout, tmp_path) as site,
        chromium() as browser,
        page_of(browser, site.address) as page,
    ):
        await page.goto("/keys")
        button = page.get_by_role("link", name="Sign in with Zitadel")
        await accessible(page)
        await fits(page)
        await picture(page, "sign-in-oidc")
        await button.click()
        await page.get_by_label("Username").fill(_USER)
        await page.get_by_label("Password").fill(_PASSWORD)
        await page.get_by_role("button", name="Login").click()
        await expect(page.get_by_role("heading", name="API keys")).to_be_visible()
        assert page.url == f"{site.address}/keys"
        await page.get_by_role("link", name="My account").click()
        await expect(page.get_by_text("test-user@zitadel.ch")).to_be_visible()
        await accessible(page)
        await picture(page, "account-oidc")
        cookies = {each["name"]: each for each in await page.context.cookies(site.address)}
        assert cookies.keys() == {"authsvc", "authsvc-sign-in"}
        assert cookies["authsvc"]["httpOnly"]
        assert cookies["authsvc"]["sameSite"] == "Lax"
        await page.goto("/devices")
        await expect(page.get_by_text("test-user@zitadel.ch")).to_be_visible()
        await accessible(page)
        # Nothing of it is in the history of the browser.
        entries = await (await page.context.new_cdp_session(page)).send("Page.getNavigationHistory")
        assert not [entry["url"] for entry in entries["entries"] if "code=" in entry["url"]]
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_text("You are signed out")).to_be_visible()
