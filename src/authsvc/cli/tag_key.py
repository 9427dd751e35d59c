"""`authsvc tag-key`: rotates the key with which the tags of key strings are computed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from authsvc import app
from authsvc.cli.call import ClientError, notes, output, when
from authsvc.cli.service import start
from authsvc.cli.table import table
from authsvc.keys.tag_keys import TagKeys
from authsvc.model.errors import AuthsvcError

tag_key = cyclopts.App(
    name="tag-key",
    help_format="plaintext",
    help="Rotate the tag key, with which workers recognize key strings of this service.\n\n"
    "Uses the database of AUTHSVC_MIGRATION_DATABASE_URL, or else of AUTHSVC_DATABASE_URL. The service can "
    "keep running.",
)


@tag_key.command
async def rotate() -> None:
    """Tag new key strings with a new tag key from now on. Existing key strings keep working.

    Waits until every worker of every replica knows the new tag key before it is used. If the command
    is interrupted, run it again: it continues where it stopped.
    """
    notes.print("Waiting for all workers. An unreachable worker takes as long as its lease.")
    async with _tag_keys() as tag_keys:
        tag_key_id = await tag_keys.rotate()
    output.print(
        f"tag key {tag_key_id} is used for new key strings; earlier ones are accepted until they are retired"
    )


@tag_key.command(name="list")
async def list_() -> None:
    """List the tag keys, with the number of active keys and sessions of each."""
    async with _tag_keys() as tag_keys:
        found, alive = await tag_keys.list()
    columns = ("tag key", "state", "created", "mints since", "mints until", "retired", "keys", "sessions")
    rows = (
        (
            str(known.tag_key_id),
            known.state.value,
            *map(_when, (known.create_time, known.mint_time, known.rest_time, known.retire_time)),
            str(alive[known.tag_key_id].keys),
            str(alive[known.tag_key_id].sessions),
        )
        for known in found
    )
    output.print(table(columns, rows))


@tag_key.command
async def retire(tag_key_id: int, *, force: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Permanently refuse all key strings that were tagged with a tag key.

    Parameters
    ----------
    tag_key_id
        The number of the tag key, as shown by `authsvc tag-key list`.
    force
        Retire it even if it has active keys and sessions: they become NOT_FOUND.
    """
    async with _tag_keys() as tag_keys:
        lost = await tag_keys.retire(tag_key_id, force=force)
    output.print(f"tag key {tag_key_id} is retired on every worker")
    if any(lost):
        output.print(f"up to {lost.keys} keys and {lost.sessions} sessions have become unusable")


@asynccontextmanager
async def _tag_keys() -> AsyncIterator[TagKeys]:
    try:
        async with app.looking_after_tag_keys(start()) as tag_keys:
            yield tag_keys
    except AuthsvcError as error:
        raise ClientError(error.message) from None


def _when(moment: datetime | None) -> str:
    return "" if moment is None else when(moment)
