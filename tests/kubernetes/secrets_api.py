"""The part of the Kubernetes API that is about Secrets, by TLS, with the faults that a test chooses."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import Authority

TOKEN = "token-of-the-service-account"
_COLLECTION = "/api/v1/namespaces/shop/secrets"


@dataclass
class Call:
    """A request as it arrived."""

    method: str
    path: str
    body: Any

    @property
    def is_dry(self) -> bool:
        return self.path.endswith("?dryRun=All")


#: Answers a call, or returns None so that it is answered as the API does.
Fault = Callable[[Call], "tuple[int, object] | None"]


class Lost(Exception):
    """The connection is closed without an answer."""


@dataclass
class SecretsApi:
    """The Secrets of one namespace."""

    port: int = 0
    secrets: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    fault: Fault = field(default=lambda _: None)

    def answer(self, call: Call) -> tuple[int, object]:
        self.calls.append(call)
        if told := self.fault(call):
            return told
        return self.as_the_api_does(call)

    def as_the_api_does(self, call: Call) -> tuple[int, object]:
        if call.method == "GET":
            name = call.path.removeprefix(f"{_COLLECTION}/")
            return (200, self.secrets[name]) if name in self.secrets else (404, status(404, "NotFound"))
        if call.path.partition("?")[0] != _COLLECTION:
            return 404, status(404, "NotFound")
        name = call.body["metadata"]["name"]
        if name in self.secrets:
            return 409, status(409, "AlreadyExists")
        if not call.is_dry:
            self.secrets[name] = call.body
        return 201, call.body


def status(code: int, reason: str, message: str = "") -> dict[str, object]:
    """What the API answers with an error."""
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@contextmanager
def serving_secrets(mount: Path) -> Iterator[SecretsApi]:
    """Serve on a port of 127.0.0.1, and write what the kubelet would mount into a directory."""
    authority = Authority()
    authority.issue(addresses=("127.0.0.1",)).write(mount / "server.crt", mount / "server.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(mount / "server.crt", mount / "server.pem")
    (mount / "ca.crt").write_bytes(authority.cert)
    (mount / "token").write_text(TOKEN)
    (mount / "namespace").write_text("shop")
    api = SecretsApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                code, told = 401, status(401, "Unauthorized", "Unauthorized")
            else:
                try:
                    code, answer = api.answer(Call(self.command, self.path, body))
                except Lost:
                    self.close_connection = True
                    return
                told = answer  # type: ignore[assignment]
            text = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815 - names that the base class calls

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            connection.settimeout(30)
            return tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, *_: object) -> None:
            """A client that refuses the certificate ends the connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        api.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield api
        server.shutdown()
        thread.join()
