"""The ports of a service, held by the supervisor for its workers, which share them."""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from authsvc import app
from authsvc.config.settings import ConfigError, Settings
from authsvc.net import port
from authsvc.net.listen_address import ListenAddress
from authsvc.net.port import AddressInUseError
from authsvc.process.children import Children

_log = logging.getLogger(__name__)


@contextmanager
def held_ports(settings: Settings, children: Children) -> Iterator[Settings]:
    """Hold the ports while the block runs; yield the settings with the ports that 0 stood for.

    Raises AddressInUseError when AUTHSVC_LISTEN cannot be held, ConfigError for AUTHSVC_HTTP_LISTEN, and
    OpenFilesError when the process could not open enough connections to them.
    """
    app.check_open_files(settings)
    with ExitStack() as stack:
        grpc = _hold_grpc(settings.listen)
        children.hide([stack.enter_context(grpc)])
        settings = settings.model_copy(update={"listen": _bound(settings.listen, grpc)})
        if settings.http_listen is not None:
            http = _hold(settings.http_listen, "AUTHSVC_HTTP_LISTEN")
            children.hide([stack.enter_context(http)])
            settings = settings.model_copy(update={"http_listen": _bound(settings.http_listen, http)})
            _log.info("the check over HTTP is at %s/check", settings.http_listen)
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


def _bound(listen: ListenAddress, held: socket.socket) -> ListenAddress:
    return listen.with_port(held.getsockname()[1])
