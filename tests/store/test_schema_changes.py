"""Calls of all kinds while the schema is changed under them, as by the migrations of the next release."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from itertools import count
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from authsvc.config.settings import ConfigError
from authsvc.model.errors import RetryableError
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.store.key_list import _Statement
from authsvc.store.migrate import Migration, migrate
from authsvc.store.queries import load_queries
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from tests.conftest import Client, Service, serving
from tests.rpc.refusal import refused
from tests.rpc.test_replicas import status_of

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
TABLES = """
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace = 'authsvc'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
     ORDER BY 1
"""
VIEWS = """
    SELECT c.relname, pg_get_viewdef(c.oid) AS definition FROM pg_class c
     WHERE c.relnamespace = 'authsvc'::regnamespace AND c.relkind = 'v' ORDER BY 1
"""
COMPOSITE_TYPES = """
    SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'authsvc'::regnamespace AND c.relkind = 'c'
"""


class Load:
    """Calls of all kinds, again and again; what they were answered is counted."""

    def __init__(self, service: Service, database_url: str) -> None:
        self.service, self.database_url = service, database_url
        self.answers: dict[grpc.StatusCode, int] = {OK: 0, UNAVAILABLE: 0}
        self.rounds = [0] * 6
        self._numbers = count()
        self._ended = asyncio.Event()  # a round

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call while the block runs. Raises what a call must not be answered."""
        kinds = (self.keys, self.lists, self.sessions, self.policies, self.webhooks, self.new_workers)
        async with asyncio.TaskGroup() as tasks:
            over = asyncio.Event()
            for number, kind in enumerate(kinds):
                tasks.create_task(self._repeat(number, kind, over))
            yield
            over.set()

    async def _repeat(
        self, number: int, kind: Callable[[Client], Awaitable[None]], over: asyncio.Event
    ) -> None:
        while not over.is_set():
            # A refused call ends the round, since the next ones need its answer.
            with contextlib.suppress(Refused):
                await kind(self.service.admin)
            self.rounds[number] += 1
            self._ended.set()
            self._ended = asyncio.Event()

    async def more(self, rounds: int = 2) -> None:
        """Wait until each kind has gone through some more rounds: one was begun and ended after this."""
        wanted = [done + rounds for done in self.rounds]
        while any(done < want for done, want in zip(self.rounds, wanted, strict=True)):
            await self._ended.wait()

    async def ask(self, call: Awaitable[Any]) -> Any:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            status = rpc_status.from_call(error)
            may_retry = status is not None and any(each.Is(RetryInfo.DESCRIPTOR) for each in status.details)
            if error.code() is not UNAVAILABLE or not may_retry:
                raise
            self.answers[UNAVAILABLE] += 1
            raise Refused from None
        self.answers[OK] += 1
        return answer

    async def keys(self, admin: Client) -> None:
        owner_id, ask = "acme", self.ask
        made = await ask(
            admin.CreateKey(owner_id=owner_id, display_name="Orders", request_id=f"r{next(self._numbers)}")
        )
        assert (await ask(admin.VerifyKey(key_string=made.key_string))).valid
        other = await ask(admin.CreateKey(owner_id=owner_id, display_name="Other"))
        await ask(admin.GetKey(key_id=made.key.key_id))
        await ask(admin.LookupKey(key_string=made.key_string))
        changed = resources_pb2.Key(key_id=made.key.key_id, display_name="Renamed")
        await ask(admin.UpdateKey(key=changed, update_mask=FieldMask(paths=["display_name"])))
        rotated = await ask(admin.RotateKey(key_id=made.key.key_id, grace_period=Duration(seconds=60)))
        await ask(admin.RevokeKey(key_id=rotated.key.key_id))
        await ask(admin.BatchRevokeKeys(key_ids=[made.key.key_id, other.key.key_id]))
        assert not (await ask(admin.VerifyKey(key_string=made.key_string))).valid
        await ask(admin.DeleteKey(key_id=made.key.key_id))
        await ask(admin.BatchRevokeKeys(owner_id="nobody"))

    async def lists(self, admin: Client) -> None:
        for order in ("display_name", "create_time desc", "expire_time", "last_use_time"):
            await self.ask(admin.ListKeys(owner_id="acme", order_by=order, page_size=5))
        await self.ask(admin.ListKeys(owner_id="acme", filter={"query": "ord"}, include_total_size=True))
        await self.ask(admin.ListAuditEvents(owner_id="acme", page_size=5))
        for wanted in ({"actions": [1]}, {"actor_id": "key_x"}, {"target_id": "key_x"}):
            await self.ask(admin.ListAuditEvents(owner_id="acme", filter=wanted))
        await self.ask(status_of(self.service))
        await self.background()

    async def sessions(self, admin: Client) -> None:
        made = [await self.ask(admin.CreateSession(owner_id="alice")) for _ in range(3)]
        for each in made:
            assert (
                await self.ask(admin.VerifySession(session_token=each.session_token, user_agent="curl/8"))
            ).valid
        await self.ask(admin.ListSessions(owner_id="alice"))
        await self.ask(admin.GetSession(session_id=made[0].session.session_id))
        await self.ask(admin.RevokeSession(session_id=made[0].session.session_id))
        except_id = made[1].session.session_id
        await self.ask(admin.RevokeAllSessions(owner_id="alice", except_session_id=except_id))
        await self.ask(admin.RevokeAllSessions(owner_id="alice"))

    async def policies(self, admin: Client) -> None:
        for most in (5, 6):
            policy = policy_pb.OwnerPolicy(owner_id="globex", max_active_keys=most, keys_enabled=True)
            policy.key_edits, policy.key_managers = policy_pb.KEY_EDITS_ALL, policy_pb.KEY_MANAGERS_ANY
            paths = ["max_active_keys", "keys_enabled", "key_edits", "key_managers"]
            await self.ask(admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=paths)))
            await self.ask(admin.GetOwnerPolicy(owner_id="globex"))
        made = await self.ask(admin.CreateKey(owner_id="globex", display_name="Orders"))
        await self.ask(admin.BatchRevokeKeys(owner_id="globex"))
        await self.ask(admin.DeleteKey(key_id=made.key.key_id))

    async def webhooks(self, admin: Client) -> None:
        # A round that ends early leaves its webhook.
        owner_id = f"hooked{next(self._numbers)}"
        made = await self.ask(
            admin.CreateWebhook(owner_id=owner_id, url="https://hooks.invalid/", event_types=["key.deleted"])
        )
        webhook_id = made.webhook.webhook_id
        changed = webhook_pb.Webhook(webhook_id=webhook_id, description="new")
        await self.ask(admin.UpdateWebhook(webhook=changed, update_mask=FieldMask(paths=["description"])))
        await self.ask(admin.RotateWebhookSecret(webhook_id=webhook_id))
        await self.ask(admin.GetWebhook(webhook_id=webhook_id))
        await self.ask(admin.ListWebhooks(owner_id=owner_id))
        await self.ask(admin.ListWebhookDeliveries(webhook_id=webhook_id))
        try:
            await self.ask(admin.RedeliverWebhook(delivery_id="dlv_nothing"))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error  # noqa: PT017 - others are raised by `ask`
        await self.ask(admin.DeleteWebhook(webhook_id=webhook_id))

    async def background(self) -> None:
        """What a worker does beside calls; what is Unavailable is tried again by it."""
        app = self.service.app
        for work in (
            app.usage.flush,
            app.activity.flush,
            app.refusals.flush,
            app.confirmations.flush,
            app.keys.deliveries.flush,
            app.reaper.look,
            app.audit_months.step,
        ):
            with contextlib.suppress(RetryableError):
                await work()

    async def new_workers(self, _: Client) -> None:
        """A worker that starts, with new connections; all others get new ones, too."""
        await self.service.app.database.refresh()
        # A start that cannot have the database says so, and is tried again by the supervisor.
        with contextlib.suppress(ConfigError):
            async with serving(self.database_url, None) as other:
                client = other.as_caller(self.service.admin_key)
                await self.ask(client.VerifyKey(key_string=self.service.admin_key))
                await self.ask(client.CreateKey(owner_id="new", display_name="Orders"))


class Refused(Exception):
    """A call was answered UNAVAILABLE, with the time to retry."""


def changes(tables: list[str], views: list[tuple[str, str]]) -> list[Migration]:
    """Return migrations that widen each table and each view, and narrow the tables again."""
    steps = [
        step
        for table in tables
        for step in (
            (
                f"ALTER TABLE authsvc.{table} ADD COLUMN added text,"
                " ADD COLUMN filled integer NOT NULL DEFAULT 1",
                table,
            ),
            (f"ALTER TABLE authsvc.{table} DROP COLUMN added, DROP COLUMN filled", table),
        )
    ]
    for view, definition in views:
        widened = f"SELECT w.*, NULL::integer AS added FROM ({definition.rstrip(';')}) AS w"  # noqa: S608
        steps.append((f"CREATE OR REPLACE VIEW authsvc.{view} AS {widened}", view))
    return [Migration(9001 + number, name, sql) for number, (sql, name) in enumerate(steps)]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_change_of_the_schema_is_a_fault(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Columns come and go, and views get wider, while calls go on: each is answered, or may be repeated."""
    caplog.set_level(logging.WARNING)
    connection = await asyncpg.connect(database_url)
    tables = [row["relname"] for row in await connection.fetch(TABLES)]
    # Otherwise the definitions have no schema, for a user of its name.
    await connection.execute("SET search_path = public")
    views = [(row["relname"], row["definition"]) for row in await connection.fetch(VIEWS)]
    # A column type of ours would have to be changed here, too.
    assert await connection.fetchval(COMPOSITE_TYPES) == 0
    await connection.close()
    assert len(tables) > 10
    assert len(views) > 4
    async with serving(database_url, None) as service:
        load = Load(service, database_url)
        async with load.running():
            await load.more()
            for change in changes(tables, views):
                await migrate(database_url, migrations=[change])
                await load.more(1)
            await load.more()
        assert (await service.admin.VerifyKey(key_string=service.admin_key)).valid
    assert load.answers[OK] > 20 * load.answers[UNAVAILABLE]
    faults = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert faults == []


async def test_a_statement_that_is_outdated(service: Service, database_url: str) -> None:
    """The call that notices it in its transaction may be repeated; nothing was done, and then it is done."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="first")

    async def rename(name: str) -> None:
        key = resources_pb2.Key(key_id=made.key.key_id, display_name=name)
        await service.admin.UpdateKey(key=key, update_mask=FieldMask(paths=["display_name"]))

    await rename("second")
    # No name of a column helps when its type changes.
    change = Migration(9001, "brand", "ALTER TABLE authsvc.owner_policies ALTER brand TYPE varchar")
    await migrate(database_url, migrations=[change])
    with refused(UNAVAILABLE, "SCHEMA_CHANGED") as refusal:
        await rename("third")
    assert refusal.retry_seconds is not None
    assert (await service.admin.GetKey(key_id=made.key.key_id)).display_name == "second"
    await rename("third")
    assert (await service.admin.GetKey(key_id=made.key.key_id)).display_name == "third"


async def test_columns_are_named(database_url: str) -> None:
    """No query and no function of the schema reads or casts whole rows: they get wider one day."""
    whole_rows = re.compile(r"(?<!count\()\*(?=[\s,)]|$)|\.\*|%ROWTYPE|::authsvc\.\w", re.MULTILINE)
    connection = await asyncpg.connect(database_url)
    functions = await connection.fetch(
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'authsvc'::regnamespace"
    )
    await connection.close()
    texts = {row["proname"]: row["prosrc"] for row in functions}
    for file in files("authsvc.store").joinpath("sql").iterdir():
        texts |= {f"{file.name} {name}": text for name, text in load_queries(file.name).items()}
    wanted = KeyQuery("acme", KeyFilter(query="orders", scope="orders:read"), KeyOrder("last_use_time"))
    listing = _Statement(wanted, datetime.now(UTC))
    texts |= {
        "walk": listing.walk(None, 1, 6),
        "walk on": listing.walk(None, 1, None),
        "find": listing.find(None, 1),
    }
    assert len(texts) > 60
    # A product, the path of a JSON value, or a record whose columns are named beside it.
    allowed = {
        "append_audit": r"\$\.\*|\* 1000000",
        "feed.sql remove_foreign": r"\* 1\.2",
        "key_warnings.sql list_due_keys": r"\* (interval|days)",
        "borrow_units": r"\* (limits|u\.period)",
        "next_credit_epoch": r"\* 1000000",
        "shown_credits": r"\* 1000000",
        "create_key": r"\* INTO (held|key)",
        "create_keys": r"\* INTO key",
    }
    found = {
        name: whole_rows.findall(re.sub(allowed.get(name, "^$"), "", re.sub("--.*", "", text)))
        for name, text in texts.items()
    }
    assert {name: each for name, each in found.items() if each} == {}
