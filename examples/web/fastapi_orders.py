"""Orders, one list for each owner, with FastAPI: `uvicorn fastapi_orders:app`. Starlette works alike."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from pydantic import BaseModel

from authsvc.client import AuthClient, AuthenticatedAsgi, current

app = FastAPI()
# The middleware starts the client with the application, and closes it.
client = AuthClient(
    os.environ.get("AUTHSVC_ADDRESS", "127.0.0.1:50051"),
    key=Path(os.environ.get("ORDERS_KEY_FILE", "orders.key")),
    tls=None,  # both run on this machine
)
app.add_middleware(
    AuthenticatedAsgi,
    client=client,
    # Requests that are not listed here or as public are refused. A WebSocket is a GET.
    scopes={
        "GET /orders": "orders:read",
        "POST /orders": "orders:write",
        "GET /orders/live": ["orders:read", "orders:write"],
    },
    public=["GET /health"],
    cookies=["sid"],  # for browsers, which cannot send headers with a WebSocket
)
orders: defaultdict[str, list[str]] = defaultdict(list)


class Order(BaseModel):
    """What a caller orders."""

    order: str


@app.get("/health")
async def health() -> Any:
    """Answer anybody."""
    return {"answer": "ok"}


@app.get("/orders")
def list_orders() -> Any:
    """Return the caller's orders. This runs in a thread, and knows the caller as well."""
    return {"orders": orders[current().owner_id]}


@app.post("/orders", status_code=201)
async def place_order(order: Order) -> Any:
    """Place an order for the caller's owner."""
    orders[current().owner_id].append(order.order)
    return {"answer": "placed"}


@app.websocket("/orders/live")
async def take_orders(socket: WebSocket) -> None:
    """Place each order that arrives, and answer with all of the caller's."""
    mine = orders[current().owner_id]
    await socket.accept()
    async for order in socket.iter_text():
        mine.append(order)
        await socket.send_json({"orders": mine})
