"""What the connections of the ASGI server share."""

from typing import TYPE_CHECKING, Protocol

from uvicorn.config import Config
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from authsvc.net.asgi_connection import Connection


class Server(Protocol):
    """The server, for one of its connections."""

    application: "ASGI3Application"
    config: Config
    state: ServerState
    max_connections: int
    max_body_bytes: int
    answer_seconds: float
    silent: "dict[Connection, None]"
    idle: "dict[Connection, None]"
    closing: bool
    held_bytes: int

    def forget(self, connection: "Connection") -> None:
        """No longer count a connection that is closed."""
