"""Orders, one list for each owner, with Flask: `gunicorn --threads 8 flask_orders:app`."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from flask import Flask, request

from authsvc.client import AuthenticatedWsgi, BlockingAuthClient, current

app = Flask(__name__)
client = BlockingAuthClient(
    os.environ.get("AUTHSVC_ADDRESS", "127.0.0.1:50051"),
    key=Path(os.environ.get("ORDERS_KEY_FILE", "orders.key")),
    tls=None,  # both run on this machine
)
app.wsgi_app = AuthenticatedWsgi(  # type: ignore[method-assign]
    app.wsgi_app,
    client,
    # Requests that are not listed here or as public are refused.
    scopes={"GET /orders": "orders:read", "POST /orders": "orders:write"},
    public=["GET /health"],
)
orders: defaultdict[str, list[str]] = defaultdict(list)


@app.get("/health")
def health() -> Any:
    """Answer anybody."""
    return {"answer": "ok"}


@app.get("/orders")
def list_orders() -> Any:
    """Return the caller's orders."""
    return {"orders": orders[current().owner_id]}


@app.post("/orders")
def place_order() -> Any:
    """Place an order for the caller's owner."""
    orders[current().owner_id].append(str(request.get_json()["order"]))
    return {"answer": "placed"}, 201
