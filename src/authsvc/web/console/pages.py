"""Makes pages: the templates, and the headers that every answer has."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from authsvc.web.console import shown
from authsvc.web.console.static_files import StaticFiles
from authsvc.web.console.texts import Texts

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
_NOT_KEPT = {"cache-control": "no-store"}


class Pages:
    """Renders pages."""

    def __init__(self, texts: Texts, static: StaticFiles, clock: Callable[[], datetime]) -> None:
        self.texts, self._clock = texts, clock
        self._environment = Environment(
            loader=PackageLoader("authsvc.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(t=texts, static=static.paths)
        self._environment.filters.update(shown=shown.text, plain=shown.plain)

    def page(
        self, template: str, values: Mapping[str, Any], *, status: int = 200, caller: object = None
    ) -> Response:
        """Return a page. It is shown to a `caller`, or to somebody who is not signed in."""
        times = shown.Times(self.texts, self._clock())
        known: dict[str, Any] = {"user": caller, "times": times, "section": "", **values}
        body = self._environment.get_template(template).render(known)
        return Response(body, status, headers=_NOT_KEPT, media_type="text/html")
