"""How many connections of clients the ports of a worker accept."""

from typing import NamedTuple

from authsvc.config.settings import Settings
from authsvc.net import open_files
from authsvc.net.asgi_server import MAX_CONNECTIONS

# The listeners, as the log names them.
_GRPC = "gRPC connections (AUTHSVC_CONNECTION_LIMIT)"
_HTTP, _WEB = "connections to AUTHSVC_HTTP_LISTEN", "connections to AUTHSVC_WEB_LISTEN"
# A browser has up to six.
_MAX_WEB_CONNECTIONS = 1024


class ConnectionLimits(NamedTuple):
    """The numbers of connections: over gRPC, of the check over HTTP, and over HTTP with JSON."""

    grpc: int
    http: int
    web: int


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return what is wanted, or what the open files leave; raise OpenFilesError if that is too little."""
    found = open_files.shares(_wanted(settings), settings.database_pool_size)
    return ConnectionLimits(found[_GRPC], found.get(_HTTP, 0), found.get(_WEB, 0))


def check_open_files(settings: Settings) -> None:
    """Raise OpenFilesError when the limit of open files is too low; log which ports it restricts."""
    open_files.check_replica(settings.workers)
    open_files.warn_of_shortage(_wanted(settings), settings.database_pool_size)


def _wanted(settings: Settings) -> dict[str, int]:
    wanted = {_GRPC: settings.connection_limit}
    if settings.http_listen is not None:
        wanted[_HTTP] = MAX_CONNECTIONS
    if settings.web_listen is not None:
        wanted[_WEB] = _MAX_WEB_CONNECTIONS
    return wanted
