"""The tables that commands print."""

import ast
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from authsvc import cli
from authsvc.cli.call import when
from authsvc.cli.key_table import key_table
from authsvc.cli.table import Table, table
from authsvc.v1 import (
    audit_service_pb2,
    owner_policy_service_pb2,
    resources_pb2,
    scope_service_pb2,
)

HOSTILE = "a\u202eb\u2028c\x1b[2Jd\u200be[red]f"
SHOWN = r"a\u202eb\u2028c\x1b[2Jd\u200be[red]f"
MOMENT = Timestamp(seconds=1_800_000_000)
TOLD = "2027-01-15 08:00"


def lines(shown: Table) -> list[str]:
    """Return the lines of a table as a terminal gets them, including colours."""
    console = Console(width=300, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(shown)
    return capture.get().splitlines()


def a_key(name: str) -> resources_pb2.Key:
    return resources_pb2.Key(
        key_id="key_1",
        display_name=name,
        state=resources_pb2.KEY_STATE_ACTIVE,
        create_time=MOMENT,
        expire_time=MOMENT,
        last_use_time=MOMENT,
        revoke_time=MOMENT,
        scopes=[name],
    )


def a_session(text: str) -> resources_pb2.Session:
    return resources_pb2.Session(
        session_id="ses_1",
        device=resources_pb2.Device(browser=text),
        location=resources_pb2.Location(city=text),
        state=resources_pb2.SESSION_STATE_ACTIVE,
        ip_address=text,
        create_time=MOMENT,
        last_activity_time=MOMENT,
        expire_time=MOMENT,
    )


def an_event(text: str) -> audit_service_pb2.AuditEvent:
    return audit_service_pb2.AuditEvent(
        event_time=MOMENT, target_id=text, actor_id=text, client_ip=text, details={"reason": text}
    )


def table_of(command: str, shown: object) -> Table:
    """Return the table of a command. The command may bear the name of its module."""
    made = import_module(f"authsvc.cli.{command}")._table(shown)
    assert isinstance(made, Table)
    return made


POLICY = owner_policy_service_pb2.OwnerPolicy(owner_id=HOSTILE, brand=HOSTILE, update_time=MOMENT)
# A table, the number of its cells with hostile text, and the number of its times.
TABLES = {
    "keys": (key_table([a_key(HOSTILE)]), 2, 4),
    "sessions": (table_of("sessions", [a_session(HOSTILE)]), 3, 3),
    "audit": (table_of("audit", [an_event(HOSTILE)]), 4, 1),
    "scopes": (table_of("scopes", [scope_service_pb2.Scope(name=HOSTILE, description=HOSTILE)]), 2, 0),
    "policies": (table_of("policies", POLICY), 2, 1),
}


@pytest.mark.parametrize("command", TABLES)
def test_what_a_terminal_would_act_on_is_escaped(command: str) -> None:
    """In every cell with text from others, in every table: names from before the rules, user agents."""
    shown, texts, _ = TABLES[command]
    told = "\n".join(lines(shown))
    assert told.count(SHOWN) == texts
    assert not set(told) & set("\u202e\u2028\u200b")
    assert "\x1b[2J" not in told


@pytest.mark.parametrize("command", TABLES)
def test_times_bear_their_zone(command: str) -> None:
    """Each time says UTC."""
    shown, _, times = TABLES[command]
    told = "\n".join(lines(shown))
    assert told.count(TOLD) == times
    assert told.count(f"{TOLD} UTC") + told.count(f"{TOLD}:00 UTC") == times


def test_an_instant_is_told_in_utc() -> None:
    """This does not depend on the time zone of the user."""
    moment = datetime(2027, 1, 15, 10, 0, 7, tzinfo=timezone(timedelta(hours=2)))
    assert when(moment) == when(MOMENT) == "2027-01-15 08:00 UTC"
    assert when(moment, to_seconds=True) == "2027-01-15 08:00:07 UTC"
    assert when(moment.astimezone(UTC)) == "2027-01-15 08:00 UTC"


def test_a_cell_of_ours_has_a_style() -> None:
    """Text from others has no style, whatever it contains."""
    [_, row] = lines(table(("a", "b"), [("[red]x[/]", Text("x", "red"))]))
    assert "[red]x[/]" in row
    assert "\x1b[31mx" in row


def imported(file: Path) -> Sequence[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_there_is_one_way_to_make_a_table() -> None:
    """No command uses the tables or the markup of rich directly."""
    for file in Path(cli.__file__).parent.glob("*.py"):
        if file.name != "table.py":
            assert not {"rich.table", "rich.markup"} & set(imported(file)), file.name
