"""The port of a worker for the RPCs over HTTP."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from authsvc.app.connection_limits import connection_limits
from authsvc.app.drain import DrainPauses
from authsvc.app.gauges import watch_web
from authsvc.app.parts import App
from authsvc.config.settings import ConfigError, Settings
from authsvc.entrance.entrance import Entrance
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.arrivals import MAX_ARRIVAL_SECONDS
from authsvc.rpc.limits import MAX_MESSAGE_BYTES
from authsvc.rpc.tls import Tls
from authsvc.verify.lease import certainly_over
from authsvc.web.application import WebApplication
from authsvc.web.connect import client_of
from authsvc.web.console import Oidc, SessionTimes, console
from authsvc.web.console.oidc.client import CALLBACK, OidcClient
from authsvc.web.console.oidc.http_client import HttpClient
from authsvc.web.console.oidc.provider import Provider
from authsvc.web.published import Published
from authsvc.web.rpcs import Rpcs
from authsvc.web.secret_scanning import SecretScanning


class WebPort:
    """Serves from `start` on. At a stop, calls get as long as those over gRPC, at the same time."""

    def __init__(
        self, app: App, settings: Settings, listen: ListenAddress, rpcs: Rpcs, pauses: DrainPauses
    ) -> None:
        self._listen = listen
        self._grace = settings.drain_grace.total_seconds()
        # No RPC takes longer by itself, as over gRPC.
        answer_seconds = certainly_over(settings.lease.total_seconds()) + MAX_ARRIVAL_SECONDS
        pages = _console(app, settings, rpcs, answer_seconds)
        # uvicorn has types of its own for what ASGI sends.
        application: Any = WebApplication(
            rpcs,
            app.readiness,
            rpcs.entrance,
            pages,
            secret_scanning=_secret_scanning(app, rpcs.entrance),
            published=_published(app, settings),
        )
        self._server = AsgiServer(
            application,
            max_connections=connection_limits(settings).web,
            # Messages that are a little too large get an error of Connect.
            max_body_bytes=2 * MAX_MESSAGE_BYTES,
            tls=_context(app.tls),
            idle_grace=pauses.idle_grace,
            answer_seconds=answer_seconds,
        )
        self._stopping: asyncio.Task[None] | None = None
        watch_web(app.metrics, self._server)

    async def start(self) -> int:
        """Serve, and return the port. Raises ConfigError."""
        try:
            return await self._server.start(self._listen)
        except OSError as error:
            raise ConfigError(
                f"AUTHSVC_WEB_LISTEN: cannot listen at {self._listen}: {error.strerror or error}"
            ) from error

    def stop(self) -> None:
        """Begin to stop."""
        self._stopping = asyncio.create_task(self._server.stop(self._grace))

    async def stopped(self) -> None:
        """Wait until calls have ended, if it was begun to stop."""
        if self._stopping is not None:
            await self._stopping


def _published(app: App, settings: Settings) -> Published | None:
    """Return what verifiers of tokens read; None if tokens are not enabled."""
    keys = app.token_keys
    return None if keys is None else Published(settings.token_issuer, lambda: keys.value.published)


def _console(app: App, settings: Settings, rpcs: Rpcs, max_seconds: float) -> ASGIApp | None:
    if settings.console == "off":
        return None
    times = SessionTimes()
    return console(
        rpcs,
        app.clock,
        max_seconds=max_seconds,
        session_times=SessionTimes(
            min(times.lifetime, settings.session_lifetime_max),
            min(times.idle_timeout, settings.session_idle_timeout_max),
        ),
        has_plain_cookies=settings.console_url.startswith("http://"),
        oidc=_oidc(app, settings),
    )


def _oidc(app: App, settings: Settings) -> Oidc | None:
    """Return the sign-in by OpenID Connect; None if it is not set."""
    secrets = app.oidc_secrets
    if secrets is None:
        return None
    client = OidcClient(
        issuer=settings.console_oidc_issuer,
        client_id=settings.console_oidc_client_id,
        redirect_uri=settings.console_url.rstrip("/") + CALLBACK,
        scopes=settings.console_oidc_scopes,
        roles_claim=settings.console_oidc_roles_claim,
        roles=settings.console_oidc_roles,
        name=settings.console_oidc_name or urlsplit(settings.console_oidc_issuer).hostname or "",
        secrets=lambda: secrets.value,
    )
    return Oidc(client, Provider(client, HttpClient()))


def _secret_scanning(app: App, entrance: Entrance) -> ASGIApp | None:
    if app.scanning_keys is None:
        return None
    return SecretScanning(entrance, app.leaks, app.scanning_keys, client_of)


def _context(tls: Tls | None) -> Callable[[], ssl.SSLContext] | None:
    """Return what has the TLS context of a new connection; None for plain text."""
    return None if tls is None else lambda: tls.web_context
