"""The port of a worker for the check over HTTP."""

from contextlib import AsyncExitStack
from dataclasses import replace

from authsvc.app.connection_limits import connection_limits
from authsvc.app.drain import DrainPauses
from authsvc.app.gauges import watch_http
from authsvc.app.parts import App
from authsvc.config.settings import ConfigError, Settings
from authsvc.entrance.entrance import Entrance
from authsvc.gateway.http_check import HttpCheck
from authsvc.model.address import Proxies
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.http_message import asgi
from authsvc.net.listen_address import ListenAddress


async def serve_http_check(
    app: App,
    settings: Settings,
    listen: ListenAddress,
    entrance: Entrance,
    proxies: Proxies,
    pauses: DrainPauses,
    stack: AsyncExitStack,
) -> int:
    """Serve the check over HTTP until the stack ends, and return its port. Raises ConfigError."""
    if entrance.observer is not None:
        entrance = replace(entrance, observer=entrance.observer.over("http"))
    check = HttpCheck(app.access, entrance, app.readiness, proxies)
    server = AsgiServer(
        asgi(check.answer),
        max_connections=connection_limits(settings).http,
        idle_grace=pauses.idle_grace,
    )
    watch_http(app.metrics, server)
    try:
        port = await server.start(listen)
    except OSError as error:
        raise ConfigError(
            f"AUTHSVC_HTTP_LISTEN: cannot listen at {listen}: {error.strerror or error}"
        ) from error
    stack.push_async_callback(server.stop, settings.drain_grace.total_seconds())
    return port
