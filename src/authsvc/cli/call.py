"""Calls of a running service, and the output of what it returns."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from authsvc.cli.table import Table
from authsvc.config.file import read_file
from authsvc.config.settings import Settings, load_settings
from authsvc.model.errors import OperatorError
from authsvc.net.listen_address import ListenAddress

# If the output is not a terminal, lines are not wrapped.
notes = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 240)
output = Console(highlight=False, width=None if sys.stdout.isatty() else 240)

# Otherwise gRPC would use the proxy that http_proxy names, even for loopback, and send it the key.
_OPTIONS = (("grpc.enable_http_proxy", 0),)

T = TypeVar("T", bound=Message)
Metadata = list[tuple[str, str]]


class ClientError(OperatorError):
    """The service refused the call or cannot be reached. The message is for people."""


@asynccontextmanager
async def calling(*, needs_key: bool = True) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """Yield a channel to the service and the metadata to call it with. Raise ClientError if a call fails.

    Without `needs_key`, the call is made with a key only if AUTHSVC_KEY has one.
    """
    settings = load_settings()
    address = settings.listen.reachable
    if settings.address:
        address = ListenAddress.parse(settings.address.removeprefix("https://"))
    metadata = _metadata(settings, address) if needs_key or settings.key is not None else []
    async with _channel(settings, address) as channel:
        try:
            yield channel, metadata
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() is grpc.StatusCode.UNAVAILABLE and ("connect" in details or "resolv" in details):
                raise ClientError(_unreachable(settings, address, details)) from None
            raise ClientError(f"{error.details()} ({error.code().name})") from None


def _metadata(settings: Settings, address: ListenAddress) -> Metadata:
    """Return the metadata that authenticates the caller: the key string, or none with a certificate."""
    admin_key = settings.data_dir / "admin.key"
    if settings.key is not None:
        key_string = settings.key.get_secret_value().strip()
    elif settings.call_tls_cert is not None:
        return []
    elif settings.address and not address.is_loopback:
        raise ClientError(
            f"set AUTHSVC_KEY to a key string of the service at {address}; the one in {admin_key} is for "
            "`authsvc dev` on this machine and is not sent to another machine"
        )
    else:
        key_string = _read(admin_key)
    if not (key_string.isascii() and key_string.isprintable()):
        raise ClientError(
            "AUTHSVC_KEY contains characters that no key string has; check that it was copied completely"
        )
    return [("authorization", f"Bearer {key_string}")]


def _channel(settings: Settings, address: ListenAddress) -> grpc.aio.Channel:
    """Return a channel with TLS if it is configured, or else in plain text, for this machine only."""
    files = (settings.call_tls_ca, settings.call_tls_key, settings.call_tls_cert)
    if not _by_tls(settings):
        if not (settings.insecure or address.is_loopback):
            raise ClientError(
                f"the key would be sent to {address} in plain text; set AUTHSVC_ADDRESS=https://{address}, "
                "or, if a lower layer encrypts the traffic, AUTHSVC_INSECURE=plaintext-beyond-loopback"
            )
        return grpc.aio.insecure_channel(str(address), options=_OPTIONS)
    if (settings.call_tls_key is None) != (settings.call_tls_cert is None):
        raise ClientError("set both AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY, or neither")
    names = ("AUTHSVC_CALL_TLS_CA", "AUTHSVC_CALL_TLS_KEY", "AUTHSVC_CALL_TLS_CERT")
    ca, key, cert = (
        None if file is None else read_file(name, file) for name, file in zip(names, files, strict=True)
    )
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.aio.secure_channel(str(address), credentials, options=_OPTIONS)


def _by_tls(settings: Settings) -> bool:
    # Without an address, the service is the one that these settings configure.
    serves_tls = not settings.address and settings.tls_cert is not None
    configured = settings.call_tls_ca or settings.call_tls_cert or settings.call_tls_key
    return settings.address.startswith("https://") or configured is not None or serves_tls


def _unreachable(settings: Settings, address: ListenAddress, details: str) -> str:
    if _by_tls(settings):
        return (
            f"cannot connect to {address} with TLS: {details.rstrip('.')}. Check AUTHSVC_ADDRESS, whose host "
            "must be named in the service's certificate, and AUTHSVC_CALL_TLS_CA, the authority that issued "
            "it. If the service requires client certificates, check AUTHSVC_CALL_TLS_CERT and "
            "AUTHSVC_CALL_TLS_KEY"
        )
    return (
        f"cannot connect to {address}; set AUTHSVC_ADDRESS to the host:port of the service, or to "
        "https://host:port for TLS"
    )


async def first(
    limit: int, request: Any, ask: Callable[[Any], Awaitable[Any]], items: Callable[[Any], Sequence[T]]
) -> list[T]:
    """Return the first items of a list, from as many pages as needed; leave `request` at the next page."""
    found: list[T] = []
    while len(found) < limit:
        request.page_size = min(1000, limit - len(found))
        page = await ask(request)
        found.extend(items(page))
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    return found


def show(
    found: Sequence[T], limit: int, *, as_json: bool, table: Callable[[Sequence[T]], Table], more: bool
) -> None:
    """Print a list, as a table or as one JSON object per line; with a table, note if there are more items."""
    if as_json:
        for message in found:
            print(json.dumps(MessageToDict(message, preserving_proto_field_name=True)))
        return
    output.print(table(found))
    if more:
        notes.print(f"Only the first {limit} are shown; use --limit to show more.")


def when(moment: Timestamp | datetime, *, to_seconds: bool = False) -> str:
    """Return a time as text for people, in UTC."""
    if isinstance(moment, Timestamp):
        moment = moment.ToDatetime(tzinfo=UTC)
    return f"{moment.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if to_seconds else '%Y-%m-%d %H:%M'}} UTC"


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except OSError as error:
        raise ClientError(
            "set AUTHSVC_KEY to a key string, or AUTHSVC_DATA_DIR to the data directory of `authsvc dev` "
            f"(cannot read {file}: {error.strerror})"
        ) from None
