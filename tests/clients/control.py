"""The control of the cases, over HTTP: begins them, checks what was sent, and changes keys and sessions."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
from google.protobuf.json_format import ParseDict

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import session_service_pb2 as session_pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.clients.calls import Calls, problems

_DEADLINE_SECONDS = 60


class RealService:
    """Creates and changes credentials at a real service."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._keys, self._sessions = KeyServiceStub(channel), SessionServiceStub(channel)
        self._options: Any = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": _DEADLINE_SECONDS}

    def create(self, wanted: Mapping[str, Any]) -> dict[str, str]:
        """Create what a set-up step says, and return the values of its name."""
        [(action, given)] = wanted.items()
        name, request = given["as"], given["request"]
        if action == "create_key":
            made = self._keys.CreateKey(ParseDict(request, pb.CreateKeyRequest()), **self._options)
            return {name: made.key_string, f"{name}.id": made.key.key_id}
        if action == "create_session":
            opened = self._sessions.CreateSession(
                ParseDict(request, session_pb.CreateSessionRequest()), **self._options
            )
            return {name: opened.session_token, f"{name}.id": opened.session.session_id}
        raise ValueError(f"no such step of a set-up: {action}")

    def do(self, wanted: Mapping[str, str], values: Mapping[str, str]) -> None:
        """Do what a step says to what was created under a name."""
        [(action, name)] = wanted.items()
        given = values[f"{name}.id"]
        match action:
            case "revoke_key":
                self._keys.RevokeKey(pb.RevokeKeyRequest(key_id=given), **self._options)
            case "disable_key":
                self._keys.DisableKey(pb.DisableKeyRequest(key_id=given), **self._options)
            case "enable_key":
                self._keys.EnableKey(pb.EnableKeyRequest(key_id=given), **self._options)
            case "revoke_session":
                request = session_pb.RevokeSessionRequest(session_id=given)
                self._sessions.RevokeSession(request, **self._options)
            case _:
                raise ValueError(f"nothing that can be done: {action}")


@contextmanager
def real_service(address: str, key: str) -> Iterator[RealService | None]:
    """Connect to a real service while the block runs; to none without an address."""
    if not address:
        yield None
        return
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield RealService(channel, key)


class Control:
    """Answers `/begin`, `/check` and `/do`. Cases are under way one at a time."""

    def __init__(
        self,
        vectors: Path,
        begin: Callable[[Sequence[Mapping[str, Any]]], None],
        calls: Calls,
        service: RealService | None,
    ) -> None:
        """Take the cases, what makes the scripted service begin, its calls, and the real service."""
        self._cases = {case["name"]: case for case in json.loads(vectors.read_text("utf-8"))["cases"]}
        self._begin = begin
        self._calls = calls
        self._service = service
        self._values: dict[str, str] = {}

    def answer(self, path: str, query: Mapping[str, str]) -> object:
        """Return the answer to a request. Raise KeyError and ValueError for one that cannot be meant."""
        case = self._cases[query["case"]]
        if path == "/begin":
            return self._begun(case)
        step = case["steps"][int(query["step"])]
        if path == "/check":
            return {"problems": problems(self._calls.taken(), step["sent"])}
        if path == "/do" and self._service is not None:
            self._service.do(step["do"], self._values)
            return {}
        raise ValueError(f"{path} cannot be done")

    def _begun(self, case: Mapping[str, Any]) -> object:
        given, self._values = case["given"], {}
        self._begin(given.get("answers", ()))
        for wanted in given.get("service", ()):
            if self._service is None:
                raise ValueError("there is no real service: skip this case")
            self._values.update(self._service.create(wanted))
        return self._filled(case)

    def _filled(self, value: Any) -> Any:
        """Return a part of a case in which names are replaced by what was created under them."""
        if isinstance(value, dict):
            return {name: self._filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._filled(part) for part in value]
        if isinstance(value, str):
            for name, text in self._values.items():
                value = value.replace(f"${{{name}}}", text)
        return value

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs, and yield the address."""
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                try:
                    status, answer = HTTPStatus.OK, control.answer(url.path, query)
                except (KeyError, ValueError, IndexError, grpc.RpcError) as error:
                    status, answer = HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                # The client of Java would reuse the connection, although this is HTTP/1.0.
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()
