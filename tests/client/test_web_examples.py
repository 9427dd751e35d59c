"""examples/web without changes, each in the server that its README names."""

import json
import re
import shlex
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.client.test_example import create
from tests.client.web import GUNICORN, UVICORN, Answer, Web, serving
from tests.e2e.process import running

_SERVICES = {
    "flask_orders:app": GUNICORN,
    "django_orders:wsgi": GUNICORN,
    "django_orders:asgi": UVICORN,
    "fastapi_orders:app": UVICORN,
}


@pytest.mark.parametrize("service", _SERVICES)
def test_the_story_of_their_readme(checkout: Path, directory: Path, service: str) -> None:
    """Orders are separate by owner, scopes apply, and requests fail with a revoked key or without authsvc."""

    def orders(web: Web, key_string: str) -> Answer:
        return web.send("GET", "/orders", ("authorization", f"Bearer {key_string}"))

    def place(web: Web, key_string: str) -> Answer:
        return web.send("POST", "/orders", ("x-api-key", key_string), body=b'{"order": "a book"}')

    with running("dev", directory) as server:
        own, _ = create(
            server, "authsvc", "orders-service", "--scope", "keys:verify", "--scope", "sessions:verify"
        )
        (directory / "orders.key").write_text(own)
        both, key_id = create(server, "acme", "Laptop", "--scope", "orders:read", "--scope", "orders:write")
        reader, _ = create(server, "globex", "Reader", "--scope", "orders:read")
        threads = ("--threads", "8") if _SERVICES[service] is GUNICORN else ()
        with serving(
            *_SERVICES[service],
            *threads,
            service,
            cwd=directory,
            authsvc_address=server.address,
            pythonpath=str(checkout / "examples/web"),
        ) as web:
            assert web.send("GET", "/health").json == {"answer": "ok"}
            assert web.send("GET", "/orders").outcome == (401, "CREDENTIAL_MISSING")
            assert place(web, both).status == 201
            assert orders(web, both).json == {"orders": ["a book"]}
            assert orders(web, reader).json == {"orders": []}
            assert place(web, reader).outcome == (403, "SCOPE_MISSING")
            assert web.send("GET", "/admin", ("x-api-key", both)).outcome == (403, "ROUTE_NOT_PERMITTED")
            if service.startswith("fastapi"):
                _place_by_websocket(web, both, reader)
            assert server.run("keys", "revoke", key_id).code == 0
            assert orders(web, both).outcome == (401, "CREDENTIAL_REVOKED")
            assert server.end() == 0
            assert orders(web, reader).outcome == (503, "VERIFIER_UNAVAILABLE")
    assert "a request cannot be authenticated" in web.told
    assert not any(key in web.told for key in (own, both, reader))


def _place_by_websocket(web: Web, good: str, bad: str) -> None:
    """A browser can only send cookies."""
    address = f"ws://127.0.0.1:{web.port}/orders/live"
    with connect(address, additional_headers={"cookie": f"sid={good}"}, proxy=None) as socket:
        socket.send("a pen")
        assert json.loads(socket.recv()) == {"orders": ["a book", "a pen"]}
    for headers, status in (({}, 401), ({"cookie": f"sid={bad}"}, 403)):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == status


@pytest.mark.slow
def test_their_readme_names_what_exists(checkout: Path) -> None:
    """The services are those that are tested here, and the documented commands start them."""
    text = (checkout / "examples/web/README.md").read_text("utf-8").replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True)
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    started = {
        command[-1]: Path(command[0]).name for command in commands if command[-1].endswith(("app", "gi"))
    }
    assert started == {service: server[0] for service, server in _SERVICES.items()}
