"""The connections to authsvc.

Mechanism: the workers of a replica share one port, and the kernel gives each connection to one of them for
good; replicas share a name. So there are several channels, each with connections of its own (gRPC would
share them), and each balances over all addresses of the name. A worker that says by grpc.health.v1 that it
cannot answer is left out. Connections are pinged, so that one whose other end has vanished is noticed; until
then one that let a deadline pass is rested while others work, so that a worker that hangs costs few calls.

Bound: which worker a connection gets is the kernel's choice, so a few connections may miss one of many
workers. A worker that started later is found when connections are made anew (AUTHSVC_CONNECTION_AGE).
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
    # Or what http_proxy names would be sent our key and could answer in authsvc's name, for loopback, too.
    ("grpc.enable_http_proxy", 0),
    # Or all channels would share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    # authsvc takes a ping every five seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without it, the one above is not heeded before a minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC would wait for up to two minutes before it connects to a service that is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


# Seconds that a connection is rested.
_REST = 5.0
# Seconds that gRPC gets to close connections, for which it waits for nobody.
_CLOSED_WITHIN = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust and who we are, in PEM files that are read when the client starts.

    Without `ca`, the authorities that come with gRPC are trusted. `certificate` and `private_key` belong
    together and are for a service that asks for a client certificate. `server_name` is what the service's
    certificate is issued to, when that is not the target's host.
    """

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together: give both, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC takes; raise OSError for a file that cannot be read."""
        ca, private_key, certificate = (
            path.read_bytes() if path is not None else None
            for path in (self.ca, self.private_key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, private_key, certificate)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """What a channel needs besides."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def is_local(target: str) -> bool:
    """Say whether a target is of this machine only: a Unix socket, or loopback addresses.

    A name is not, whatever it resolves to, but for localhost (RFC 6761).
    """
    scheme, _, rest = target.partition(":")
    match scheme:
        case "unix" | "unix-abstract":
            return True
        case "ipv4" | "ipv6":
            return all(map(_is_loopback, rest.split(",")))
        case "dns":
            # One that names its server, dns://server/name, believes that server.
            return _is_loopback(rest.removeprefix("///"))
        case _:
            return _is_loopback(target)


def _is_loopback(address: str) -> bool:
    """Say so of `host:port`, or of a host alone."""
    host = address.rpartition(":")[0] or address
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """A channel, and what is called on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.verify_key = KeyServiceStub(channel).VerifyKey
        self.verify_session = SessionServiceStub(channel).VerifySession
        self._rests_until = -math.inf

    def rest(self) -> None:
        """Leave it alone for a while, if others work: what was asked here was not answered in time."""
        self._rests_until = monotonic() + _REST

    @property
    def is_rested(self) -> bool:
        """Whether nothing speaks against asking here."""
        return monotonic() >= self._rests_until

    @property
    def is_ready(self) -> bool:
        """Whether it is connected. Has it connect when gRPC has let it fall asleep."""
        return self.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY


class Channels:
    """Several channels to one target, taken in turn."""

    def __init__(self, target: str, tls: Tls | None, number: int) -> None:
        """Begin to connect. Needs a running event loop.

        Raises OSError for a TLS file that cannot be read, and Refused where no client can run.
        """
        options = [*_OPTIONS, *(tls.options if tls is not None else ())]
        credentials = tls.credentials() if tls is not None else None
        self.origin = Origin()
        self._connections: Sequence[Connection] = [
            Connection(
                grpc.aio.insecure_channel(target, options=options)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=options)
            )
            for _ in range(number)
        ]
        self._turn = 0
        for connection in self._connections:
            connection.channel.get_state(try_to_connect=True)

    def next(self) -> Connection:
        """Return the next one that is connected and rested, or else connected, or else the next one.

        Raises Refused in another process or event loop than the one that these were made in.
        """
        self.origin.check()
        connections = self._connections
        turns = [(self._turn + ahead) % len(connections) for ahead in range(1, len(connections) + 1)]
        ready = [turn for turn in turns if connections[turn].is_ready]
        self._turn = next((turn for turn in ready if connections[turn].is_rested), (ready or turns)[0])
        return connections[self._turn]

    async def close(self) -> None:
        """Hang up; calls in flight are cancelled."""
        try:
            async with asyncio.timeout(_CLOSED_WITHIN):
                await asyncio.gather(*(connection.channel.close() for connection in self._connections))
        except TimeoutError:
            _log.warning("gRPC has not closed its connections in %g s", _CLOSED_WITHIN)
        finally:
            self.origin.leave()
