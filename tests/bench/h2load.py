"""Load on one RPC by h2load, a client that is cheaper than the server.

h2load takes a gRPC error for a success: whoever uses it looks at a reply first, and at
the server's own counts afterwards.
"""

import asyncio
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

HOW_TO_GET = "h2load is missing; on Debian: apt-get install nghttp2-client"
# Connections, and RPCs in flight on each.
_LOAD = (8, 16)


class H2LoadError(Exception):
    """The measurement is worth nothing; the message says why."""


def is_there() -> bool:
    """Say whether h2load can be run."""
    return shutil.which("h2load") is not None


def described() -> str:
    """Return the command line in full, with names for what differs from run to run."""
    version = subprocess.run(
        ("h2load", "--version"), capture_output=True, text=True, check=True
    ).stdout.strip()
    command = shlex.join(_command("REQUESTS", Path("REQUEST"), "http://127.0.0.1:PORT/SERVICE/METHOD", "KEY"))
    return f"Load: {command}  ({version})"


class Load:
    """The same request over and over to one RPC, so many in flight on each of some connections."""

    def __init__(
        self, address: str, path: str, message: bytes, key_string: str, load: tuple[int, int] = _LOAD
    ) -> None:
        """Take what to send; without a key string, by a caller without a credential."""
        self._url = f"http://{address}{path}"
        self._body = b"\0" + struct.pack(">I", len(message)) + message
        self._key_string = key_string
        self._load = load

    async def rate(self, requests: int) -> float:
        """Send so many requests and return how many were answered a second."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._body)
            file.flush()
            command = _command(str(requests), Path(file.name), self._url, self._key_string, self._load)
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            output = (await process.communicate())[0].decode()
        finished = re.search(r"finished in .*?, ([\d.]+) req/s", output)
        if finished is None or f" {requests} succeeded, 0 failed" not in output:
            raise H2LoadError(f"h2load did not get all its answers:\n{output}")
        return float(finished[1])


def hold_counts(before: dict[str, float], after: dict[str, float], name: str, expected: int) -> None:
    """Hold the server's own count against what the load was meant to do: no error passes for an answer."""
    counted = after[name] - before.get(name, 0)
    errors = [
        metric
        for metric in after
        if metric.startswith("authsvc_rpc_errors_total") and after[metric] != before.get(metric, 0)
    ]
    if counted != expected or errors:
        raise H2LoadError(f"{name} rose by {counted:.0f} instead of {expected}: {errors or 'no errors'}")


def _command(
    requests: str, body: Path, url: str, key_string: str, load: tuple[int, int] = _LOAD
) -> tuple[str, ...]:
    headers = ["content-type: application/grpc", "te: trailers"]
    if key_string:
        headers.append(f"authorization: Bearer {key_string}")
    options = [word for header in headers for word in ("-H", header)]
    connections, streams = map(str, load)
    in_flight = ("-c", connections, "-m", streams, "-t", "1")
    return ("h2load", "-n", requests, *in_flight, "-d", str(body), *options, url)
