"""A service that requires valid keys: orders, one list for each owner.

Its messages are JSON objects, so it needs no proto files. Only `SCOPES`, `PUBLIC`, `current()` and three
lines of `main` concern authsvc.
"""

import argparse
import asyncio
import json
import logging
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from authsvc.client import AuthClient, Authenticated, current

# Methods that are not listed here or in PUBLIC are refused.
SCOPES = {
    "orders.v1.Orders/List": "orders:read",
    "orders.v1.Orders/Watch": "orders:read",
    "orders.v1.Orders/Place": "orders:write",
}
PUBLIC = ["orders.v1.Orders/Ping"]


class Orders:
    """The orders of each owner, in memory."""

    def __init__(self) -> None:
        self._orders: defaultdict[str, list[str]] = defaultdict(list)
        self._placed = asyncio.Condition()

    async def ping(self, request: Any, context: Any) -> Any:
        """Answer any caller."""
        return {"answer": "pong"}

    async def list(self, request: Any, context: Any) -> Any:
        """Return the caller's orders."""
        return {"orders": self._orders[current().owner_id]}

    async def place(self, request: Any, context: Any) -> Any:
        """Place an order for the caller's owner."""
        async with self._placed:
            self._orders[current().owner_id].append(str(request["order"]))
            self._placed.notify_all()
        return {"answer": "placed"}

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the caller's orders, including future ones."""
        mine, sent = self._orders[current().owner_id], 0
        while True:
            for order in mine[sent:]:
                yield {"order": order}
            sent = len(mine)
            async with self._placed:
                await self._placed.wait_for(lambda: len(mine) > sent)  # noqa: B023 - awaited in this iteration


def _handlers(orders: Orders) -> grpc.GenericRpcHandler:
    as_json: dict[str, Any] = {
        "request_deserializer": json.loads,
        "response_serializer": lambda answer: json.dumps(answer).encode(),
    }
    return grpc.method_handlers_generic_handler(
        "orders.v1.Orders",
        {
            "Ping": grpc.unary_unary_rpc_method_handler(orders.ping, **as_json),
            "List": grpc.unary_unary_rpc_method_handler(orders.list, **as_json),
            "Place": grpc.unary_unary_rpc_method_handler(orders.place, **as_json),
            "Watch": grpc.unary_stream_rpc_method_handler(orders.watch, **as_json),
        },
    )


async def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authsvc", default="127.0.0.1:50051", help="the address of authsvc")
    parser.add_argument(
        "--key-file", type=Path, default=Path(".data/admin.key"), help="the file with the key of this service"
    )
    parser.add_argument("--listen", default="127.0.0.1:50052", help="the address to listen on")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    # Plain text is sufficient, since both run on this machine.
    async with AuthClient(given.authsvc, key=given.key_file, tls=None) as client:
        server = grpc.aio.server(interceptors=[Authenticated(client, scopes=SCOPES, public=PUBLIC)])
        server.add_generic_rpc_handlers([_handlers(Orders())])
        port = server.add_insecure_port(given.listen)
        await server.start()
        print(f"orders serves at {given.listen.rpartition(':')[0]}:{port}. Ctrl-C stops it.", flush=True)
        await stop.wait()
        await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(main())
