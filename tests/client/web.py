"""Web applications in real servers, and requests to them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.e2e.process import environment, until

GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket")
UVICORN = ("uvicorn", "--port", "0", "--no-access-log")


@dataclass(frozen=True)
class Answer:
    """The response to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> tuple[int, str]:
        """The status, and the reason of a refusal, whose form is checked."""
        if self.headers.get("content-type") != "application/problem+json":
            return self.status, ""
        assert self.headers["cache-control"] == "no-store"
        assert (self.status in (429, 503)) is ("retry-after" in self.headers)
        assert self.status != 401 or self.headers["www-authenticate"].startswith('Bearer realm="authsvc"')
        told = self.json
        assert told["status"] == self.status
        assert told["type"] == f"urn:authsvc:problem:{told['reason'].lower().replace('_', '-')}"
        assert told["title"]
        assert told["detail"]
        return self.status, told["reason"]


@dataclass(frozen=True)
class Web:
    """A running server."""

    port: int
    output: Path

    @property
    def told(self) -> str:
        return self.output.read_text("utf-8")

    def send(self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Answer:
        """Send a request as it is, on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("content-type", "application/json")
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, answered, response.read())
        finally:
            connection.close()


@contextmanager
def serving(*command: str, cwd: Path, **settings: str) -> Iterator[Web]:
    """Run a server from our environment until the block ends, with these environment variables."""
    output = cwd / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment() | {name.upper(): value for name, value in settings.items()},
            start_new_session=True,
        )
    try:

        def told() -> re.Match[str] | None:
            text = output.read_text("utf-8")
            assert process.poll() is None, text
            return re.search(r"(?:running on|Listening at:|port) (?:http://127.0.0.1:)?(\d+)", text)

        until(told, 60)
        match = told()
        assert match is not None
        yield Web(int(match[1]), output)
        process.terminate()
        process.wait(30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
