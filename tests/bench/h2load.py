"""Load on one RPC by h2load, a client that is cheaper than the server.

h2load counts a gRPC error as a success, so its users check a response first, and
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
    """The measurement is invalid; the message has the reason."""


def is_there() -> bool:
    """Return whether h2load can be run."""
    return shutil.which("h2load") is not None


def described() -> str:
    """Return the full command line, with names for what differs from run to run."""
    version = subprocess.run(
        ("h2load", "--version"), capture_output=True, text=True, check=True
    ).stdout.strip()
    command = shlex.join(_command("REQUESTS", Path("REQUEST"), "http://127.0.0.1:PORT/SERVICE/METHOD", "KEY"))
    return f"Load: {command}  ({version})"


class Load:
    """The same request to one RPC repeatedly, with several requests in flight on each connection."""

    def __init__(
        self,
        address: str,
        path: str,
        message: bytes,
        key_string: str,
        load: tuple[int, int] = _LOAD,
        *,
        tls: bool = False,
    ) -> None:
        """Set what to send; without a key string, the caller has no credential."""
        self._url = f"{'https' if tls else 'http'}://{address}{path}"
        self._body = b"\0" + struct.pack(">I", len(message)) + message
        self._key_string = key_string
        self._load = load

    async def rate(self, requests: int) -> float:
        """Send this many requests and return the number of responses per second."""
        return await self._run(requests)

    async def durations(self, requests: int) -> list[float]:
        """Send this many requests and return the seconds that each took."""
        with tempfile.NamedTemporaryFile() as log:
            await self._run(requests, "--log-file", log.name)
            return [int(line.split()[2]) / 1e6 for line in log]

    async def _run(self, requests: int, *options: str) -> float:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._body)
            file.flush()
            command = _command(str(requests), Path(file.name), self._url, self._key_string, self._load)
            command = (*command, *options)
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            output = (await process.communicate())[0].decode()
        finished = re.search(r"finished in .*?, ([\d.]+) req/s", output)
        if finished is None or f" {requests} succeeded, 0 failed" not in output:
            raise H2LoadError(f"h2load did not get all its answers ({process.returncode}):\n{output}")
        return float(finished[1])


def hold_counts(before: dict[str, float], after: dict[str, float], name: str, expected: int) -> None:
    """Compare the server's own count with the intended load, so that no error counts as a response."""
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
