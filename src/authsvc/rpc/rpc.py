"""An RPC, as a transport serves it."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from authsvc.rpc.context import Context, WholeCall

# Answers a call by its context; None if the messages were sent already.
Handle = Callable[[object, Context], Coroutine[Any, Any, bytes | None]]
# Answers a verification whose whole message has arrived, or returns what has to be awaited for the answer.
AtOnce = Callable[[WholeCall, bytes], bytes | Coroutine[Any, Any, bytes | None]]


class Rpc(NamedTuple):
    """An RPC, whatever transport carries it."""

    # "/package.Service/Method"
    path: str
    handle: Handle
    # Whether `handle` sends the messages itself.
    writes: bool = False
    at_once: AtOnce | None = None
    # Whether it is a stream that may last longer than a connection does otherwise.
    lasts: bool = False
