"""Makes pages: the templates, and the headers that every answer has."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authsvc.model.address import site
from authsvc.model.caller import Caller
from authsvc.model.key_string import redact
from authsvc.rpc.rate_limits import shown_limits
from authsvc.web.console import shown
from authsvc.web.console.credits import shown_refill
from authsvc.web.console.static_files import StaticFiles
from authsvc.web.console.texts import Texts
from authsvc.web.console.turns import Turns

#: Of every answer. Nothing is inline, nothing comes from elsewhere, and nobody may frame it.
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# Returns a page that is made chunk by chunk.
Made = Callable[[Iterable[str]], Awaitable[str]]
_NOT_KEPT = {"cache-control": "no-store"}


class Pages:
    """Renders pages."""

    def __init__(self, texts: Texts, static: StaticFiles, clock: Callable[[], datetime]) -> None:
        self.texts, self._clock = texts, clock
        # Those who are not signed in do not delay those who are.
        self._turns, self._turns_of_strangers = Turns(), Turns()
        self._environment = Environment(
            loader=PackageLoader("authsvc.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            finalize=_without_secrets,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(t=texts, static=static.paths)
        self._environment.filters.update(
            shown=shown.text, plain=shown.plain, limit_texts=shown_limits, refill_text=shown_refill
        )

    def page(
        self,
        template: str,
        values: Mapping[str, Any],
        *,
        status: int = 200,
        caller: Caller | None = None,
        address: str = "",
        at_once: bool = False,
    ) -> Response:
        """Return a page. It is shown to a `caller`, or to somebody at an `address` who is not signed in.

        It is made when it is sent, and waits for its turn unless it has to be sent `at_once`.
        """
        times = shown.Times(self.texts, self._clock())
        known: dict[str, Any] = {"user": caller, "times": times, "section": "", **values}
        turns = self._turns_of_strangers if caller is None else self._turns
        owner = caller.owner_id if caller else site(address)
        made = turns.made_at_once if at_once else partial(turns.made, owner=owner)
        return _Page(self._environment.get_template(template), known, status, made)

    async def in_turn(self, caller: Caller, answer: Callable[[], Awaitable[Response]]) -> Response:
        """Return the answer to a caller, made with its page when it is the turn of the caller's owner."""
        async with self._turns.held(caller.owner_id):
            response = await answer()
            if isinstance(response, _Page):
                await response.make(self._turns.made_at_once)
            return response


class NewSecret(str):
    """A key string that its page shows, once. All others are cut out, also of what somebody has typed."""

    __slots__ = ()


def _without_secrets(value: object) -> object:
    """Return what is shown of a value."""
    if not isinstance(value, str) or isinstance(value, NewSecret):
        return value
    told = redact(value)
    return Markup(told) if isinstance(value, Markup) else told  # noqa: S704 - it was markup before


class _Page(Response):
    """A page that is made when it is sent."""

    def __init__(
        self,
        template: Template,
        values: Mapping[str, Any],
        status: int,
        made: Made,
    ) -> None:
        super().__init__(b"", status, headers=_NOT_KEPT, media_type="text/html")
        self._template, self._values, self._made = template, values, made

    async def make(self, made: Made) -> None:
        """Make the page, unless it is made already."""
        if not self.body:
            self.body = (await made(self._template.generate(self._values))).encode()
            self.headers["content-length"] = str(len(self.body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.make(self._made)
        await super().__call__(scope, receive, send)
