"""ListKeys as SQL: keyset pages over the indexes that the schema has for it.

The position of the last row goes into the WHERE clause, so a page costs the same
however deep it is, and rows that come and go do not shift it.
"""

from collections.abc import Sequence
from datetime import datetime

from authsvc.model.key import Key, KeyState
from authsvc.model.key_query import KeyFilter, KeyQuery, Position
from authsvc.store import keys
from authsvc.store.pool import Connection

# What each order compares, in the words of its index: the value, a parameter of the same kind, the id.
_NEVER_EXPIRES, _NEVER_USED = "'infinity'::timestamptz", "'-infinity'::timestamptz"
_ORDERS = {
    "display_name": ("folded_name", "{}::text", "key_id"),
    "create_time": ("create_time", "{}::timestamptz", "key_id"),
    "expire_time": (
        f"coalesce(expire_time, {_NEVER_EXPIRES})",
        f"coalesce({{}}::timestamptz, {_NEVER_EXPIRES})",
        "key_id",
    ),
    "last_use_time": (
        f"coalesce(last_use_time, {_NEVER_USED})",
        f"coalesce({{}}::timestamptz, {_NEVER_USED})",
        "use_key_id",
    ),
}
_STATES = {
    KeyState.REVOKED: "revoke_time <= {now}",
    KeyState.EXPIRED: f"coalesce(expire_time, {_NEVER_EXPIRES}) <= {{now}}"
    " AND (revoke_time IS NULL OR revoke_time > {now})",
    KeyState.ACTIVE: f"coalesce(expire_time, {_NEVER_EXPIRES}) > {{now}}"
    " AND (revoke_time IS NULL OR revoke_time > {now})",
}
_TRIGRAM = 3


async def page(
    connection: Connection, query: KeyQuery, *, now: datetime, size: int, after: Position | None
) -> list[Key]:
    """Return at most `size` keys that follow the position. Call it within a transaction."""
    statement = _Statement(query, now)
    sql = statement.page(query, after, size)
    # A plan for any owner and filter would be wrong for most: each statement gets a plan of its own.
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
    return [keys.from_row(row) for row in await connection.fetch(sql, *statement.values)]


async def count(connection: Connection, query: KeyQuery, *, now: datetime) -> int:
    """Return how many keys the query has on all pages."""
    statement = _Statement(query, now)
    return int(await connection.fetchval(statement.count(), *statement.values, timeout=60))


class _Statement:
    """Conditions, and the values of their parameters."""

    def __init__(self, query: KeyQuery, now: datetime) -> None:
        self.values: list[object] = []
        self._conditions = [f"owner_id = {self._value(query.owner_id)}", *self._filter(query.filter, now)]

    def count(self) -> str:
        return f"SELECT count(*) FROM authsvc.key_rows WHERE {' AND '.join(self._conditions)}"

    def page(self, query: KeyQuery, after: Position | None, size: int) -> str:
        column, parameter, key_id = _ORDERS[query.order.field]
        conditions = list(self._conditions)
        if after is not None:
            # PostgreSQL estimates a row comparison by its first column. With "<", a value that most rows
            # share (never expires, never used) would look as if next to nothing followed it.
            comparison = "<=" if query.order.descending else ">="
            value = parameter.format(self._value(after.value))
            last_id = self._value(after.key_id)
            conditions.append(
                f"({column}, {key_id}) {comparison} ({value}, {last_id}) AND {key_id} <> {last_id}"
            )
        direction = "DESC" if query.order.descending else "ASC"
        return (
            f"SELECT * FROM authsvc.key_rows WHERE {' AND '.join(conditions)}"
            f" ORDER BY {column} {direction}, {key_id} {direction} LIMIT {self._value(size)}"
        )

    def _value(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def _filter(self, filter_: KeyFilter, now: datetime) -> Sequence[str]:
        conditions = []
        if filter_.states:
            instant = f"{self._value(now)}::timestamptz"
            states = [f"({_STATES[state].format(now=instant)})" for state in filter_.states]
            conditions.append(f"({' OR '.join(states)})")
        if filter_.query:
            conditions.append(self._search(filter_.query))
        if filter_.creator_id:
            conditions.append(f"creator_id = {self._value(filter_.creator_id)}")
        if filter_.scope:
            conditions.append(f"scopes @> {self._value([filter_.scope])}::text[]")
        if filter_.create_time_after is not None:
            conditions.append(f"create_time >= {self._value(filter_.create_time_after)}")
        if filter_.create_time_before is not None:
            conditions.append(f"create_time < {self._value(filter_.create_time_before)}")
        if filter_.expire_time_before is not None:
            column, parameter, _ = _ORDERS["expire_time"]
            conditions.append(f"{column} < {parameter.format(self._value(filter_.expire_time_before))}")
        if filter_.unused_since is not None:
            column, parameter, _ = _ORDERS["last_use_time"]
            conditions.append(f"{column} < {parameter.format(self._value(filter_.unused_since))}")
        return conditions

    def _search(self, text: str) -> str:
        """Part of the name, in any case, or the beginning of the prefix."""
        name = self._value(keys.fold(text))
        in_name = f"strpos(folded_name, {name}) > 0"
        if len(keys.fold(text)) >= _TRIGRAM:
            in_name = f"(authsvc.trigrams(folded_name) @> authsvc.trigrams({name}) AND {in_name})"
        escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        return f"({in_name} OR key_prefix LIKE {self._value(escaped + '%')})"
