"""`authsvc notifications`: shows what was not sent to contacts and webhooks, and sends it again."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from authsvc import app
from authsvc.cli.call import ClientError, notes, output, when
from authsvc.cli.service import start
from authsvc.cli.table import Table, table
from authsvc.model.errors import AuthsvcError
from authsvc.notifications.mail.setup import send_test
from authsvc.notifications.webhooks.trial import call_test
from authsvc.store import sending
from authsvc.store.feed import now as database_time
from authsvc.store.pool import Database
from authsvc.store.sending import Sending

notifications = cyclopts.App(
    name="notifications",
    help_format="plaintext",
    help="Show what contacts and webhooks are told and what could not be sent, and send it again.\n\n"
    "`list` and `retry` use the database of AUTHSVC_DATABASE_URL. The service can keep running. `test` sends "
    "by itself, with the same settings as the service.",
)
# Mails in a transaction, and deliveries.
_RETRIED_AT_ONCE = 1000
_ALL_STATES = ["pending", "sent", "delivered", "failed"]


@notifications.command(name="list")
async def list_(
    *,
    failed: Annotated[bool, Parameter(negative="")] = False,
    pending: Annotated[bool, Parameter(negative="")] = False,
    owner: str = "",
    notification: str = "",
    limit: Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=1, lte=10_000))] = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List notifications with each recipient, the newest first. They are kept for 30 days.

    Parameters
    ----------
    failed
        Only what could not be sent, and will not be tried again.
    pending
        Only what is still to be sent.
    owner
        Only notifications about this owner.
    notification
        Only this notification, given by its id.
    limit
        The maximum number of lines.
    as_json
        Print one JSON object per line instead of a table.
    """
    states = [name for name, wanted in (("failed", failed), ("pending", pending)) if wanted] or _ALL_STATES
    async with _database() as database, database.connection() as connection:
        found = await sending.find(
            connection, states=states, owner_id=owner, notification_id=notification, size=limit + 1
        )
    if as_json:
        for each in found[:limit]:
            print(json.dumps(each._asdict(), default=str))
        return
    output.print(_table(found[:limit]))
    if len(found) > limit:
        notes.print(f"Only the first {limit} are shown; use --limit to show more.")


@notifications.command
async def retry(
    notification_id: str = "", *, all_failed: Annotated[bool, Parameter(name="--all", negative="")] = False
) -> None:
    """Send again what has failed: of one notification, or all of the last 30 days.

    Deliveries to webhooks that are disabled are left out; enable them first.

    Parameters
    ----------
    notification_id
        The notification, as shown by `authsvc notifications list --failed`.
    all_failed
        All notifications that have failed.
    """
    if bool(notification_id) == all_failed:
        raise ClientError("name one notification, or use --all")
    async with _database() as database:
        async with database.connection() as connection:
            at = await database_time(connection)
        retried, last = 0, 1
        while last:
            async with database.transaction() as connection:
                last = await sending.retry(connection, notification_id, at, size=_RETRIED_AT_ONCE)
            retried += last
        async with database.connection() as connection:
            known = not notification_id or await sending.find(
                connection, states=_ALL_STATES, owner_id="", notification_id=notification_id, size=1
            )
    if not known:
        raise ClientError(f"{notification_id} is not known; see `authsvc notifications list`")
    output.print(f"{retried} will be sent again" if retried else "nothing that has failed can be sent again")


@notifications.command
async def test(target: str) -> None:
    """Send a test mail to an address, or call a URL as a webhook, and say what was answered.

    Uses AUTHSVC_SMTP_URL and AUTHSVC_MAIL_FROM, or AUTHSVC_WEBHOOK_NETWORKS, as the service does. The limits
    of mail do not count it. A registered webhook is tested with its own secret by `authsvc webhooks test`.

    Parameters
    ----------
    target
        A mail address, or a URL.
    """
    settings = start()
    if "://" in target:
        attempt = await call_test(settings, target)
        if attempt.error:
            raise ClientError(f"{target}: {attempt.error}")
        output.print(f"{target} answered {attempt.status}")
    elif "@" in target:
        output.print(await send_test(settings, target))
    else:
        raise ClientError(
            f"{target} is neither a mail address nor a URL; "
            "a registered webhook is tested by `authsvc webhooks test`"
        )


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    try:
        async with app.served_database(start()) as (database, _):
            yield database
    except AuthsvcError as error:
        raise ClientError(error.message) from None


def _table(found: Sequence[Sending]) -> Table:
    columns = ("notification", "type", "owner", "to", "state", "attempts", "last", "next", "error")
    return table(
        columns,
        (
            (
                each.notification_id,
                each.type,
                each.owner_id,
                each.recipient,
                each.state,
                str(each.attempt_count),
                when(each.attempt_time) if each.attempt_time else "",
                when(each.next_time) if each.next_time else "",
                each.error,
            )
            for each in found
        ),
        unbroken=("notification", "type", "state"),
    )
