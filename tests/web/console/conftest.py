"""The console on a running service, served by uvicorn, and browsers that look at it."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx
import pytest_asyncio
import uvicorn

from authsvc.app.background import in_background
from authsvc.app.entrance import bounds_of, entrance_of
from authsvc.app.services import services_of
from authsvc.config.settings import Settings
from authsvc.model.address import Proxies
from authsvc.rpc.balance import Balance
from authsvc.verify.clock import boottime
from authsvc.web.console import console
from authsvc.web.rpcs import Rpcs
from tests.conftest import NO_PAUSES, Clock, Service, serving

SCOPES = "orders:read=Read orders,orders:write=Change orders and cancel them,reports:read"
USER_AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36"
)


def rpcs_of(service: Service, **settings: Any) -> Rpcs:
    """Return the RPCs of a service for clients of HTTP."""
    app = service.app
    values = Settings(listen="127.0.0.1:0", **settings)  # type: ignore[arg-type]
    entrance = entrance_of(app, values, boottime, Proxies(values.trusted_proxies), NO_PAUSES)
    return Rpcs(services_of(app), entrance, bounds_of(values, boottime, Balance(None, 0, boottime)))


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[str]:
    """Serve an ASGI application, and yield its address."""
    config = uvicorn.Config(
        application, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await server.startup(sockets=[listener])
        async with in_background(server.main_loop()):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        await server.shutdown(sockets=[listener])


class Browser:
    """A browser without scripts: it keeps cookies, follows redirects, and fills in forms."""

    def __init__(self, address: str, **headers: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=address,
            headers={"user-agent": USER_AGENT, **{k.replace("_", "-"): v for k, v in headers.items()}},
            follow_redirects=True,
            timeout=60,
            trust_env=False,
        )
        self.page: httpx.Response

    @property
    def text(self) -> str:
        return unescape(self.page.text)

    async def open(self, path: str, **fields: str) -> httpx.Response:
        self.page = await self.http.get(path, params=fields or None)
        return self.page

    async def send(self, path: str = "", **fields: Any) -> httpx.Response:
        """Send the form of the page that leads to a path, by default its own, with the values of it."""
        form = self.form(path)
        form.update({name.removesuffix("_"): value for name, value in fields.items()})
        target = path or self.page.url.path
        self.page = await self.http.post(target, data=form)
        return self.page

    def form(self, path: str = "") -> dict[str, Any]:
        """Return the values of a form of the page."""
        forms = re.findall(r'<form method="post"([^>]*)>(.*?)</form>', self.page.text, re.DOTALL)
        named = [body for attributes, body in forms if path and f'action="{path}"' in attributes]
        own = [body for attributes, body in forms if 'action="/sign-out"' not in attributes]
        values: dict[str, Any] = {}
        body = (named or own)[0]
        for tag in re.findall(r"<input[^>]*>", body):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            is_choice = 'type="checkbox"' in tag or 'type="radio"' in tag
            if name is None or (is_choice and " checked" not in tag):
                continue
            values.setdefault(name[1], []).append(unescape(value[1]) if value else "")
        for name_, text in re.findall(
            r'<textarea[^>]*name="([^"]*)"[^>]*>\n?(.*?)</textarea>', body, re.DOTALL
        ):
            values.setdefault(name_, []).append(unescape(text))
        for name_, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', body, re.DOTALL):
            chosen = re.findall(r'value="([^"]*)" selected', options) or re.findall(
                r'value="([^"]*)"', options
            )
            values[name_] = [unescape(chosen[0])]
        return values

    async def sign_in(self, key_string: str) -> httpx.Response:
        await self.open("/sign-in")
        return await self.send("/sign-in", key=key_string)


class Site:
    """The console of a service."""

    def __init__(self, service: Service, address: str) -> None:
        self.service, self.address = service, address

    @asynccontextmanager
    async def browser(self, key_string: str = "", **headers: str) -> AsyncIterator[Browser]:
        """Yield a browser, signed in with a key if there is one."""
        browser = Browser(self.address, **headers)
        async with browser.http:
            if key_string:
                await browser.sign_in(key_string)
                assert browser.page.status_code == 200, browser.text
            yield browser


@asynccontextmanager
async def site_of(service: Service, max_seconds: float = 45, **settings: Any) -> AsyncIterator[Site]:
    rpcs = rpcs_of(service, **settings)
    application = console(rpcs, service.app.clock, max_seconds=max_seconds, has_plain_cookies=True)
    async with served(application) as address:
        yield Site(service, address)


@pytest_asyncio.fixture
async def site(database_url: str, clock: Clock) -> AsyncIterator[Site]:
    async with serving(database_url, clock, scopes=SCOPES) as service, site_of(service) as site:
        yield site
