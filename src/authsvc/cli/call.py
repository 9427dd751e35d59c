"""How a command calls a running service, and tells people what it said."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from authsvc.config import load_settings

# Away from a terminal nothing folds a line.
notes = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 240)
output = Console(highlight=False, width=None if sys.stdout.isatty() else 240)

T = TypeVar("T", bound=Message)
Metadata = list[tuple[str, str]]


class ClientError(Exception):
    """The service refused or is not there; the message is for people."""


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """Yield a channel to the service and the metadata to call it with; raise its refusals as ClientError."""
    settings = load_settings()
    address = settings.address or settings.listen
    if settings.key is not None:
        key_string = settings.key.get_secret_value().strip()
    else:
        key_string = _read(settings.data_dir / "admin.key")
    if not (key_string.isascii() and key_string.isprintable()):
        raise ClientError("AUTHSVC_KEY holds characters that no key string has; was it copied whole?")
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            yield channel, [("authorization", f"Bearer {key_string}")]
        except grpc.aio.AioRpcError as error:
            told = error.details() or ""
            if error.code() is grpc.StatusCode.UNAVAILABLE and ("connect" in told or "resolv" in told):
                raise ClientError(
                    f"no service answers at {address}; set AUTHSVC_ADDRESS to its host:port"
                ) from None
            raise ClientError(f"{error.details()} ({error.code().name})") from None


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


def when(moment: Timestamp) -> str:
    """Return an instant as people read it, in UTC."""
    return f"{moment.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M}"


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise ClientError(
            "set AUTHSVC_KEY to a key string, or AUTHSVC_DATA_DIR to where `authsvc dev` keeps its data "
            f"({error})"
        ) from None
