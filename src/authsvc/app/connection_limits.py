"""How many connections of clients the ports of a worker accept."""

from typing import NamedTuple

from authsvc.config.settings import Settings
from authsvc.net import open_files
from authsvc.net.asgi_server import MAX_CONNECTIONS

# The listeners, as the log names them.
_GRPC, _HTTP = "gRPC connections (AUTHSVC_CONNECTION_LIMIT)", "connections to AUTHSVC_HTTP_LISTEN"


class ConnectionLimits(NamedTuple):
    """The numbers of connections, over gRPC and over HTTP."""

    grpc: int
    http: int


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return what is wanted, or what the open files leave; raise OpenFilesError if that is too little."""
    found = open_files.shares(_wanted(settings), settings.database_pool_size)
    return ConnectionLimits(found[_GRPC], found.get(_HTTP, 0))


def check_open_files(settings: Settings) -> None:
    """Raise OpenFilesError when the limit of open files is too low; log which ports it restricts."""
    open_files.check_replica(settings.workers)
    open_files.warn_of_shortage(_wanted(settings), settings.database_pool_size)


def _wanted(settings: Settings) -> dict[str, int]:
    wanted = {_GRPC: settings.connection_limit}
    return wanted if settings.http_listen is None else wanted | {_HTTP: MAX_CONNECTIONS}
