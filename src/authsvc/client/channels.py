"""The connections to authsvc.

Mechanism: the workers of a replica share one port, and the kernel assigns each connection to one of them
permanently. Replicas share a name. So there are several channels, each with connections of its own (by
default gRPC would share them), and each balances over all addresses of the name. A worker that reports
through grpc.health.v1 that it cannot answer is skipped. Pings detect connections whose other end has
vanished. Until then, a connection that missed a deadline is paused while others work, so that a hanging
worker costs few calls.

Bound: the kernel chooses the worker of a connection, so a few connections may not reach all of many workers.
A worker that starts later is reached when connections are renewed (AUTHSVC_CONNECTION_AGE).
"""

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

import grpc

from authsvc.client.origin import Origin
from authsvc.v1.holder_service_pb2_grpc import HolderServiceStub
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "authsvc.v1.KeyService"},
    }
)
_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    # Otherwise the proxy in http_proxy would get our key and could impersonate authsvc, even on loopback.
    ("grpc.enable_http_proxy", 0),
    # Otherwise all channels would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # authsvc accepts a ping every five seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this, the timeout above takes effect only after a minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default, gRPC waits for up to two minutes before it reconnects.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


_INSECURE = "plaintext-beyond-loopback"
# How long a connection that missed a deadline is paused.
_PAUSE_SECONDS = 5.0
# gRPC closes connections without waiting for the other end, so this is ample.
_CLOSE_TIMEOUT_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """The trusted authority and the client certificate, as PEM files that are read when the client starts.

    Without `ca`, the authorities that come with gRPC are trusted. `certificate` and `private_key` belong
    together; they are for a service that requires client certificates. `server_name` is the name in the
    service's certificate, if it is not the host of the target.
    """

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; set both, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for gRPC. Raise OSError if a file cannot be read."""
        ca, private_key, certificate = (
            path.read_bytes() if path is not None else None
            for path in (self.ca, self.private_key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, private_key, certificate)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Additional options for the channel."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def check_encryption(target: str, tls: Tls | None, insecure: str) -> None:
    """Raise ValueError for plain text beyond this machine, unless `insecure` says so in these very words."""
    if insecure not in ("", _INSECURE):
        raise ValueError(f'insecure has to be "{_INSECURE}", or left out')
    if tls is None and not (insecure or is_local(target)):
        raise ValueError(
            f"keys would be sent to {target} in plain text; omit tls, or pass Tls(ca=…). If a lower layer "
            f'encrypts the traffic, pass insecure="{_INSECURE}"'
        )


def is_local(target: str) -> bool:
    """Return whether a target is on this machine: a Unix socket, or only loopback addresses.

    A host name is not, whatever it resolves to, except for localhost (RFC 6761).
    """
    scheme, _, rest = target.partition(":")
    match scheme:
        case "unix" | "unix-abstract":
            return True
        case "ipv4" | "ipv6":
            return all(map(_is_loopback, rest.split(",")))
        case "dns":
            # With a DNS server, as in dns://server/name, the address depends on that server.
            return _is_loopback(rest.removeprefix("///"))
        case _:
            return _is_loopback(target)


def _is_loopback(address: str) -> bool:
    """Return whether `host:port`, or a host without a port, is loopback."""
    host = address.rpartition(":")[0] or address
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """A channel and its RPCs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        keys = KeyServiceStub(channel)
        self.verify_key, self.verify_token = keys.VerifyKey, keys.VerifyToken
        self.verify_session = SessionServiceStub(channel).VerifySession
        self.follow = HolderServiceStub(channel).Follow
        self._paused_until = -math.inf

    def pause(self) -> None:
        """Prefer other connections for a while, because a call on this one was not answered in time."""
        self._paused_until = monotonic() + _PAUSE_SECONDS

    @property
    def is_paused(self) -> bool:
        """Whether other connections are preferred."""
        return monotonic() < self._paused_until

    @property
    def is_ready(self) -> bool:
        """Whether it is connected. An idle channel starts to connect."""
        return self.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY


class Channels:
    """Several channels to one target, used in turn, and one more to follow a worker, if that is wanted."""

    def __init__(self, target: str, tls: Tls | None, number: int, *, follows: bool = False) -> None:
        """Start to connect. Requires a running event loop.

        Raises OSError if a TLS file cannot be read, and Refused if no client can run here.
        """
        options = [*_OPTIONS, *(tls.options if tls is not None else ())]
        credentials = tls.credentials() if tls is not None else None
        self.origin = Origin()
        opened = [
            Connection(
                grpc.aio.insecure_channel(target, options=options)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=options)
            )
            for _ in range(number + follows)
        ]
        self._connections: Sequence[Connection] = opened[:number]
        # Not among the others: a stream is on it for hours, and calls come and go.
        self.following = opened[-1] if follows else None
        self._turn = 0
        for connection in opened:
            connection.channel.get_state(try_to_connect=True)

    def next(self, *, prefer_followed: bool = False) -> Connection:
        """Return the next connection that is ready and not paused, or else is ready, or else the next one.

        With `prefer_followed`, the one on which a worker is followed, if it is ready. Raises Refused in a
        process or event loop other than the one in which the channels were created.
        """
        self.origin.check()
        if prefer_followed and self.following is not None and self.following.is_ready:
            return self.following
        connections = self._connections
        turns = [(self._turn + ahead) % len(connections) for ahead in range(1, len(connections) + 1)]
        ready = [turn for turn in turns if connections[turn].is_ready]
        self._turn = next((turn for turn in ready if not connections[turn].is_paused), (ready or turns)[0])
        return connections[self._turn]

    async def close(self) -> None:
        """Close the connections and cancel calls in flight."""
        opened = [*self._connections, *([self.following] if self.following is not None else [])]
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                await asyncio.gather(*(connection.channel.close() for connection in opened))
        except TimeoutError:
            _log.warning("gRPC did not close its connections within %g s", _CLOSE_TIMEOUT_SECONDS)
        finally:
            self.origin.leave()
