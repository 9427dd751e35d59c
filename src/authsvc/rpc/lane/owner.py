"""The server, as its connections see it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from authsvc.rpc.lane.head import Head
from authsvc.rpc.lane.turns import Queues
from authsvc.rpc.served import Served

if TYPE_CHECKING:
    from authsvc.rpc.lane.connection import Connection


class Owner(Protocol):
    """What a connection belongs to."""

    served: Served
    queues: Queues
    #: Reads the headers of a call.
    read_head: Callable[[Sequence[tuple[bytes, bytes]]], Head]

    @property
    def connection_age(self) -> float:
        """Seconds after which a connection is closed; 0: never."""

    @property
    def longest(self) -> float:
        """Seconds that no RPC takes longer than."""

    def left(self) -> None:
        """Note that a connection takes no more calls."""

    def lost(self, connection: "Connection") -> None:
        """Forget a connection."""
