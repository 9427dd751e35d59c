"""What changes cost when contacts and webhooks are told of them.

Three services on one PostgreSQL that waits for its disk, measured in turns: one whose schema has no outbox,
one with an outbox and nobody to tell, and one that sends two mails and makes two calls of webhooks for each
change, as long as they are not combined. A turn takes a second, so that what is sent in it weighs on its own
changes. Then what was not sent is deleted, so that it does not weigh on those of another service. The servers
share one core. PostgreSQL, the client and the receivers share another one.
"""

import base64
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

from authsvc.process.devpg import DevPostgres
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from authsvc.v1.resources_pb2 import TechnicalContact
from authsvc.v1.webhook_service_pb2_grpc import WebhookServiceStub
from tests.bench import changes
from tests.bench.bench import say
from tests.bench.changes import Side
from tests.bench.receivers import receiving
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtLeast, AtMost, Row
from tests.conftest import eventually

_PART = "told"
_HERE = Path(__file__).parents[2]
_MAX_RATIO = 1.1
_TURN_SECONDS = 1.0
_CONTACTS = [TechnicalContact(name=name, email=f"{name}@example.org") for name in ("ann", "bob")]


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about changes of which somebody is told."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, {cores[-1]})
        return await _measure(rounds=5 if quick else 15, server_core=cores[0])
    finally:
        os.sched_setaffinity(0, cores)


async def _measure(*, rounds: int, server_core: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        say("told: starting PostgreSQL and three services")
        settings = {"max_connections": "200"}
        postgres = await stack.enter_async_context(
            DevPostgres(Path(directory) / "postgres", settings=settings)
        )
        receivers = await stack.enter_async_context(receiving())
        telling = {
            "AUTHSVC_SMTP_URL": f"smtp://127.0.0.1:{receivers.mail_port}",
            "AUTHSVC_MAIL_FROM": "authsvc@example.org",
            "AUTHSVC_MAIL_ADDRESS_LIMIT": "10000",
            "AUTHSVC_MAIL_OWNER_LIMIT": "100000",
            "AUTHSVC_WEBHOOK_KEYS": base64.b64encode(b"k" * 32).decode(),
            "AUTHSVC_WEBHOOK_NETWORKS": "127.0.0.0/8",
        }
        sides = [
            await stack.enter_async_context(
                changes.serving(name, _HERE, postgres, server_core, **(telling if name == "told" else {}))
            )
            for name in ("bare", "silent", "told")
        ]
        bare, _, told = sides
        await bare.admin.execute("DROP TRIGGER notify ON authsvc.audit_events")
        for number in range(2):
            await WebhookServiceStub(told.channel).CreateWebhook(
                webhook_pb.CreateWebhookRequest(
                    owner_id="authsvc", url=f"http://127.0.0.1:{receivers.hook_port}/{number}"
                ),
                metadata=told.metadata,
            )
        for side in sides:
            side.contacts = _CONTACTS
            await side.check()
        await _check_told(told)
        rows = await _rows(sides, rounds)
        sent, made = await receivers.counts()
        what = "mails sent and webhooks called meanwhile"
        return [*rows, Row(_PART, what, str(sent), str(made), sent / max(1, made))]


async def _check_told(told: Side) -> None:
    """Wait until a mail and a call of a webhook have been accepted."""
    sent = (
        "SELECT EXISTS (SELECT FROM authsvc.mails WHERE state = 'sent')"
        "   AND EXISTS (SELECT FROM authsvc.webhook_deliveries WHERE state = 'delivered')"
    )
    await eventually(lambda: told.admin.fetchval(sent), bool)


async def _rows(sides: Sequence[Side], rounds: int) -> list[Row]:
    say("told: revocations, one at a time")
    took = await in_turns({side.name: partial(_turn, side, _one_at_a_time) for side in sides}, rounds)
    say("told: revocations, 16 at once")
    revoked = await in_turns(
        {side.name: partial(_turn, side, partial(changes.revoke, at_once=16)) for side in sides}, rounds
    )
    say("told: creates, 16 at once")
    created = await in_turns({side.name: partial(_turn, side, changes.creates) for side in sides}, rounds)
    rows = []
    for one, other, what in (
        ("told", "silent", "somebody is told, against nobody"),
        ("silent", "bare", "with an outbox, against none"),
    ):
        rows += [
            _row(f"RevokeKey, ms: {what}", took, one, other, AtMost(_MAX_RATIO)),
            _row(f"RevokeKey, 16 at once, /s: {what}", revoked, one, other, AtLeast(1 / _MAX_RATIO)),
            _row(f"CreateKey, 16 at once, /s: {what}", created, one, other, None),
        ]
    return rows


async def _turn(side: Side, load: Callable[[Side], Awaitable[float]]) -> float:
    """Make changes for a second; return the median of their rates. What was not sent then is deleted."""
    rates, started = [], time.perf_counter()
    while time.perf_counter() - started < _TURN_SECONDS:
        rates.append(await load(side))
    await side.admin.execute("DELETE FROM authsvc.notifications")
    return median(rates)


async def _one_at_a_time(side: Side) -> float:
    """Return how long a revocation takes, in milliseconds."""
    return 1000 / await changes.revoke(side, 1)


def _row(
    what: str, measured: dict[str, list[float]], one: str, other: str, aim: AtLeast | AtMost | None
) -> Row:
    shown = [f"{median(measured[name]):.1f}" for name in (one, other)]
    return Row(_PART, what, shown[0], shown[1], ratio(measured[one], measured[other]), aim)
