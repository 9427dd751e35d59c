"""How a command calls a running service, and tells people what it said."""

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
from authsvc.net.listen_address import ListenAddress

# Away from a terminal nothing folds a line.
notes = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 240)
output = Console(highlight=False, width=None if sys.stdout.isatty() else 240)

# Or gRPC would call what http_proxy names, for loopback, too, and show it the key.
_OPTIONS = (("grpc.enable_http_proxy", 0),)

T = TypeVar("T", bound=Message)
Metadata = list[tuple[str, str]]


class ClientError(Exception):
    """The service refused or is not there; the message is for people."""


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """Yield a channel to the service and the metadata to call it with; raise its refusals as ClientError."""
    settings = load_settings()
    address = settings.listen.reachable
    if settings.address:
        address = ListenAddress.parse(settings.address.removeprefix("https://"))
    metadata = _metadata(settings, address)
    async with _channel(settings, address) as channel:
        try:
            yield channel, metadata
        except grpc.aio.AioRpcError as error:
            told = error.details() or ""
            if error.code() is grpc.StatusCode.UNAVAILABLE and ("connect" in told or "resolv" in told):
                raise ClientError(_unreachable(settings, address, told)) from None
            raise ClientError(f"{error.details()} ({error.code().name})") from None


def _metadata(settings: Settings, address: ListenAddress) -> Metadata:
    """Return what says who calls: the key string, or nothing when a certificate does."""
    kept = settings.data_dir / "admin.key"
    if settings.key is not None:
        key_string = settings.key.get_secret_value().strip()
    elif settings.call_tls_cert is not None:
        return []
    elif settings.address and not address.is_loopback:
        raise ClientError(
            f"set AUTHSVC_KEY to a key string of the service at {address}; {kept}, which `authsvc dev` "
            "keeps, is for the service on this machine and is not sent to another one"
        )
    else:
        key_string = _read(kept)
    if not (key_string.isascii() and key_string.isprintable()):
        raise ClientError("AUTHSVC_KEY holds characters that no key string has; was it copied whole?")
    return [("authorization", f"Bearer {key_string}")]


def _channel(settings: Settings, address: ListenAddress) -> grpc.aio.Channel:
    """Return a channel by TLS if that is set, or else in plain text, which does not leave this machine."""
    files = (settings.call_tls_ca, settings.call_tls_key, settings.call_tls_cert)
    if not _by_tls(settings):
        if not (settings.insecure or address.is_loopback):
            raise ClientError(
                f"the key would travel to {address} in plain text; set AUTHSVC_ADDRESS=https://{address}, "
                "or, where something below us encrypts, AUTHSVC_INSECURE=plaintext-beyond-loopback"
            )
        return grpc.aio.insecure_channel(str(address), options=_OPTIONS)
    if (settings.call_tls_key is None) != (settings.call_tls_cert is None):
        raise ClientError("AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY are set together, or neither")
    names = ("AUTHSVC_CALL_TLS_CA", "AUTHSVC_CALL_TLS_KEY", "AUTHSVC_CALL_TLS_CERT")
    ca, key, cert = (
        None if file is None else read_file(name, file) for name, file in zip(names, files, strict=True)
    )
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.aio.secure_channel(str(address), credentials, options=_OPTIONS)


def _by_tls(settings: Settings) -> bool:
    # Without an address it is the service that is set up here.
    serves_tls = not settings.address and settings.tls_cert is not None
    asked = settings.call_tls_ca or settings.call_tls_cert or settings.call_tls_key
    return settings.address.startswith("https://") or asked is not None or serves_tls


def _unreachable(settings: Settings, address: ListenAddress, told: str) -> str:
    if _by_tls(settings):
        return (
            f"no service answers at {address} by TLS as it should: {told.rstrip('.')}. Check "
            "AUTHSVC_ADDRESS, and AUTHSVC_CALL_TLS_CA, the authority of its certificate, which has to bear "
            "that name; if it wants a certificate of its clients, AUTHSVC_CALL_TLS_CERT and "
            "AUTHSVC_CALL_TLS_KEY"
        )
    return (
        f"no service answers at {address}; set AUTHSVC_ADDRESS to its host:port, or https://host:port for TLS"
    )


async def first(
    limit: int, request: Any, ask: Callable[[Any], Awaitable[Any]], items: Callable[[Any], Sequence[T]]
) -> list[T]:
    """Return the first items of a list, however many pages they take; the request is left at the next."""
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
    """Print a list: for scripts one JSON object a line, for people a table, and whether there is more."""
    if as_json:
        for message in found:
            print(json.dumps(MessageToDict(message, preserving_proto_field_name=True)))
        return
    output.print(table(found))
    if more:
        notes.print(f"These are the first {limit}; --limit shows more.")


def when(moment: Timestamp | datetime, *, to_seconds: bool = False) -> str:
    """Return an instant as people read it, in UTC, and saying so."""
    if isinstance(moment, Timestamp):
        moment = moment.ToDatetime(tzinfo=UTC)
    return f"{moment.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if to_seconds else '%Y-%m-%d %H:%M'}} UTC"


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except OSError as error:
        raise ClientError(
            "set AUTHSVC_KEY to a key string, or AUTHSVC_DATA_DIR to where `authsvc dev` keeps its data "
            f"({error})"
        ) from None
