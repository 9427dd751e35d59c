"""The table in which commands show keys."""

from collections.abc import Sequence

from rich.text import Text

from authsvc.cli.call import when
from authsvc.cli.table import Table, table
from authsvc.v1 import resources_pb2

_STYLES = {"ACTIVE": "green", "DISABLED": "yellow", "EXPIRED": "yellow", "REVOKED": "red"}


def key_table(found: Sequence[resources_pb2.Key]) -> Table:
    """Return the table of some keys."""
    return table(
        ("id", "name", "prefix", "state", "scopes", "created", "expires", "last used"),
        (
            (
                key.key_id,
                key.display_name,
                f"{key.key_prefix}...",
                _state(key),
                " ".join(key.scopes),
                when(key.create_time),
                when(key.expire_time) if key.HasField("expire_time") else "never",
                _last_use(key),
            )
            for key in found
        ),
        unbroken=("id", "prefix", "state"),
    )


def _state(key: resources_pb2.Key) -> Text:
    state = resources_pb2.KeyState.Name(key.state).removeprefix("KEY_STATE_")
    if state == "ACTIVE" and key.HasField("revoke_time"):
        return Text(f"ACTIVE until {when(key.revoke_time)}", "yellow")
    if state == "DISABLED" and key.HasField("disabled_until"):
        state = f"DISABLED until {when(key.disabled_until)}"
    return Text(state, _STYLES[state.partition(" ")[0]])


def _last_use(key: resources_pb2.Key) -> str | Text:
    if key.never_delivered:
        return Text("never delivered", "yellow")
    return when(key.last_use_time) if key.HasField("last_use_time") else "never"
