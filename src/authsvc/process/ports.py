"""The ports of a service, held by the supervisor for its workers, which share them."""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from authsvc import app
from authsvc.config.settings import ConfigError, Settings
from authsvc.config.transport import web_url
from authsvc.net import port
from authsvc.net.listen_address import ListenAddress
from authsvc.net.port import AddressInUseError
from authsvc.process.children import Children

_log = logging.getLogger(__name__)

# How many ports are tried for a service whose port nobody has set.
_MAX_PORTS = 100


@contextmanager
def held_ports(
    settings: Settings, children: Children, *, default_web: ListenAddress | None = None
) -> Iterator[Settings]:
    """Hold the ports while the block runs; yield the settings with the ports that 0 stood for.

    Without AUTHSVC_WEB_LISTEN, that is `default_web`, or the next port that is free.
    Raises AddressInUseError when AUTHSVC_LISTEN cannot be held, ConfigError for the others, and
    OpenFilesError when the process could not open enough connections to them.
    """
    has_web = settings.web_listen or default_web
    app.check_open_files(settings.model_copy(update={"web_listen": has_web}))
    with ExitStack() as stack:
        grpc = _hold_grpc(settings.listen)
        children.hide([stack.enter_context(grpc)])
        settings = settings.model_copy(update={"listen": _bound(settings.listen, grpc)})
        if settings.http_listen is not None:
            http = _hold(settings.http_listen, "AUTHSVC_HTTP_LISTEN")
            children.hide([stack.enter_context(http)])
            settings = settings.model_copy(update={"http_listen": _bound(settings.http_listen, http)})
            _log.info("the check over HTTP is at %s/check", settings.http_listen)
        listen, web = settings.web_listen, None
        if listen is not None:
            web = _hold(listen, "AUTHSVC_WEB_LISTEN")
        elif default_web is not None:
            listen, web = default_web, _hold_next(default_web)
        if listen is not None and web is not None:
            children.hide([stack.enter_context(web)])
            settings = settings.model_copy(update={"web_listen": _bound(listen, web)})
            _log.info("the RPCs over HTTP are at %s", web_url(settings))
        yield settings


def _hold_grpc(listen: ListenAddress) -> socket.socket:
    try:
        return port.hold(listen)
    except OSError as error:
        raise AddressInUseError(listen, error) from error


def _hold(listen: ListenAddress, setting: str) -> socket.socket:
    try:
        return port.hold(listen)
    except OSError as error:
        raise ConfigError(f"{setting}: cannot listen at {listen}: {error.strerror or error}") from error


def _hold_next(listen: ListenAddress) -> socket.socket | None:
    """Hold an address, or the first of those with the next ports that is free; None if none is."""
    for number in range(listen.port, listen.port + _MAX_PORTS):
        with suppress(OSError):
            return port.hold(listen.with_port(number))
    _log.warning("nothing is served over HTTP: %d ports from %s on are in use", _MAX_PORTS, listen)
    return None


def _bound(listen: ListenAddress, held: socket.socket) -> ListenAddress:
    return listen.with_port(held.getsockname()[1])
