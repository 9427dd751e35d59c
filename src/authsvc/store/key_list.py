"""The SQL of ListKeys: keyset pagination over indexes of the schema.

The position of the last row is part of the WHERE clause. So every page costs the same, and inserted or
deleted rows do not shift the pages.

There are two ways to apply a filter. One walks the index of the order and skips rows. It is good for a filter
that many keys match. The other finds the matches through the index of the filter, and sorts them. It is good
for a filter that few keys match. PostgreSQL chooses by the statistics of the whole table, which are wrong for
an owner that differs from others. So this module chooses: it walks a limited number of rows; if they do not
fill the page, it finds the matches; if there are too many to sort, it walks on.
"""

from collections.abc import Sequence
from datetime import datetime

from authsvc.model.key import Key, KeyState
from authsvc.model.key_query import KeyFilter, KeyQuery
from authsvc.model.page_token import Position
from authsvc.model.text import folded
from authsvc.store import keys
from authsvc.store.bounds import bound
from authsvc.store.pages import fetch, page_of
from authsvc.store.pool import Connection

# The expressions of each order, as in its index: the value, a parameter of the same type, the id.
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
# Named, so that statements that are prepared outlive a new column. The last two are for orders and filters.
_COLUMNS = """
    key_id, owner_id, key_prefix, display_name, description, scopes, technical_contacts, annotations,
    create_time, creator_id, update_time, expire_time, revoke_time, revoker_id, revoke_reason, last_use_time,
    last_use_ip, rotated_from_key_id, rotated_to_key_id, answer, version, disable_time, disabled_until,
    disabler_id, disable_reason, disabled_by_platform, allowed_networks, revoke_cause, revoked_with_key_id,
    rate_limits, budget_id, credits, folded_name, use_key_id
"""
_LIVES = (
    f"coalesce(least(expire_time, revoke_time), {_NEVER_EXPIRES}) > {{now}}"
    " AND (revoke_time IS NULL OR revoke_time > update_time)"
)
# A key that was revoked immediately is revoked whatever the clock shows; see Key.state.
_STATES = {
    KeyState.REVOKED: "revoke_time IS NOT NULL AND revoke_time <= greatest({now}, update_time)",
    KeyState.EXPIRED: f"coalesce(expire_time, {_NEVER_EXPIRES}) <= {{now}}"
    " AND (revoke_time IS NULL OR revoke_time > greatest({now}, update_time))",
    KeyState.ACTIVE: f"{_LIVES} AND (disable_time IS NULL OR disabled_until <= {{now}})",
    KeyState.DISABLED: f"{_LIVES} AND disable_time IS NOT NULL"
    f" AND coalesce(disabled_until, {_NEVER_EXPIRES}) > {{now}}",
}
# A generic plan would be wrong for most owners and filters, so each statement is planned with its parameters.
# Hash and merge joins of all last uses of an owner, and parallel workers, never pay off for one page.
_PLANNING = """
    SET LOCAL plan_cache_mode = force_custom_plan;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL max_parallel_workers_per_gather = 0
"""
# The range of the expiry that a single state implies, if the list is ordered by expiry.
_EXPIRY = {(KeyState.ACTIVE,): ">", (KeyState.DISABLED,): ">", (KeyState.EXPIRED,): "<="}
_MIN_TRIGRAM_LENGTH = 3
# How many rows are walked for each requested row, before the index of the filter is used.
_WALKED_PER_ROW = 6
# With more matches than this, sorting is slow, and a walk finds a page of them soon.
_MAX_SORTED = 2000


async def page(
    connection: Connection, query: KeyQuery, *, now: datetime, size: int, after: Position | None
) -> tuple[Sequence[Key], bool]:
    """Return at most `size` keys that follow a position, and whether there are more.

    Must be called in a transaction, whose settings it changes.
    """
    count = size + 1  # One row more tells whether there is a next page.
    await connection.execute(_PLANNING)
    statement = _Statement(query, now)
    sql = statement.walk(after, count, count * _WALKED_PER_ROW)
    found = await fetch(connection, sql, *statement.values, size=size)
    if len(found.rows) < count and not found.is_cut and statement.filters:
        statement = _Statement(query, now)
        sql = statement.find(after, count)
        found = await fetch(connection, sql, *statement.values, size=size)
        if found.rows and found.rows[0]["found_count"] >= _MAX_SORTED:
            statement = _Statement(query, now)
            sql = statement.walk(after, count, None)
            found = await fetch(connection, sql, *statement.values, size=size)
    return page_of(found, size, keys.from_row)


async def count(connection: Connection, query: KeyQuery, *, now: datetime) -> int:
    """Return the number of keys on all pages."""
    statement = _Statement(query, now)
    return int(await connection.fetchval(statement.count(), *statement.values, timeout=60))


class _Statement:
    """One SQL statement and the values of its parameters, in order.

    Some filters have two forms: one that is cheap to check for a given row, and one that uses an index.
    """

    def __init__(self, query: KeyQuery, now: datetime) -> None:
        self.values: list[object] = []
        self._order = query.order
        self._column, self._parameter, self._id = _ORDERS[query.order.field]
        self._owner = self._value(query.owner_id)
        self.filters: list[str] = []
        self._indexed: list[str] = []
        # Conditions on the column of the order. They limit the range of the walk and do not skip rows in it.
        self._bounds: list[str] = []
        # Last uses are in a table of their own, which is joined only if necessary.
        with_use = query.order.field == "last_use_time" or query.filter.unused_since is not None
        self._source = "authsvc.key_records" if with_use else "authsvc.keys"
        self._walked = "authsvc.key_uses" if query.order.field == "last_use_time" else "authsvc.keys"
        self._add(query.filter, now)

    def count(self) -> str:
        return f"SELECT count(*) FROM authsvc.key_records WHERE {self._all(*self.filters, *self._indexed)}"

    def walk(self, after: Position | None, size: int, max_walked: int | None) -> str:
        """Return the SQL that walks the order, at most `max_walked` rows, and returns the matches.

        PostgreSQL does not know that a key and its last use have the same owner, so it expects far too few
        rows of their join: for an owner of a hundredth of all keys, a hundredth of them. It would read and
        sort all keys of the owner. So one table is walked, and each key is looked up.
        """
        limit = size if not self.filters else max_walked
        in_order = f"ORDER BY sort_value {self._direction}, walked_id {self._direction}"
        walked = (
            f"SELECT key_id AS walked_id, {self._column} AS sort_value FROM {self._walked}"
            f" WHERE {self._all(*self._after(after, 'key_id'))}"
        )
        if limit is not None:
            walked += f" {in_order} LIMIT {self._value(limit)}"
        conditions = " AND ".join(["key_id = walked_id", *self.filters])
        return (
            f"SELECT {_COLUMNS}, sort_value FROM ({walked}) AS walked CROSS JOIN LATERAL"
            f" (SELECT {_COLUMNS} FROM authsvc.key_records WHERE {conditions} LIMIT 1) AS found"
            f" {in_order} LIMIT {self._value(size)}"
        )

    def find(self, after: Position | None, size: int) -> str:
        """Return the SQL that finds the matches and sorts them; wrong if `found_count` is `_MAX_SORTED`."""
        conditions = self._all(*self.filters, *self._indexed, *self._after(after, self._id))
        return (
            f"WITH found AS MATERIALIZED"
            f" (SELECT key_id FROM {self._source} WHERE {conditions} LIMIT {self._value(_MAX_SORTED)})"
            f" SELECT {_COLUMNS}, {self._column} AS sort_value, (SELECT count(*) FROM found) AS found_count"
            " FROM authsvc.key_records JOIN found USING (key_id)"
            f" ORDER BY sort_value {self._direction}, key_id {self._direction} LIMIT {self._value(size)}"
        )

    @property
    def _direction(self) -> str:
        return "DESC" if self._order.descending else "ASC"

    def _all(self, *conditions: str) -> str:
        return " AND ".join([f"owner_id = {self._owner}", *self._bounds, *conditions])

    def _after(self, after: Position | None, key_id: str) -> list[str]:
        if after is None:
            return []
        # PostgreSQL estimates a row comparison by its first column. With "<" and a value that most rows share
        # (never expires, never used), it would expect almost no rows.
        comparison = "<=" if self._order.descending else ">="
        value, last_id = self._parameter.format(self._value(after.value)), self._value(after.item_id)
        return [f"({self._column}, {key_id}) {comparison} ({value}, {last_id})", f"{key_id} <> {last_id}"]

    def _value(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def _add(self, wanted: KeyFilter, now: datetime) -> None:
        if wanted.states:
            instant = f"{self._value(now)}::timestamptz"
            states = [f"({_STATES[state].format(now=instant)})" for state in wanted.states]
            self.filters.append(f"({' OR '.join(states)})")
            if self._order.field == "expire_time" and wanted.states in _EXPIRY:
                self._bounds.append(f"{self._column} {_EXPIRY[wanted.states]} {instant}")
        if wanted.query:
            self._search(wanted.query)
        if wanted.creator_id:
            self.filters.append(f"creator_id = {self._value(wanted.creator_id)}")
        if wanted.scope:
            scope = f"ARRAY[{self._value(wanted.scope)}::text]"
            self.filters.append(f"scopes @> {scope}")
            self._indexed.append(f"authsvc.owned(owner_id, scopes) @> authsvc.owned({self._owner}, {scope})")
        self._bound("create_time", ">=", wanted.create_time_after)
        self._bound("create_time", "<", wanted.create_time_before)
        self._bound("expire_time", "<", wanted.expire_time_before)
        self._bound("last_use_time", "<", wanted.unused_since)

    def _bound(self, field: str, comparison: str, moment: datetime | None) -> None:
        if moment is not None:
            column, parameter, _ = _ORDERS[field]
            conditions = self._bounds if field == self._order.field else self.filters
            conditions.append(f"{column} {comparison} {parameter.format(self._value(bound(moment)))}")

    def _search(self, text: str) -> None:
        """Match a part of the name, ignoring case, or the beginning of the prefix."""
        searched = folded(text)
        name = self._value(searched)
        escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        prefix = f"key_prefix LIKE {self._value(escaped + '%')}"
        self.filters.append(f"(strpos(folded_name, {name}) > 0 OR {prefix})")
        if len(searched) >= _MIN_TRIGRAM_LENGTH:
            trigrams = f"authsvc.owned({self._owner}, authsvc.trigrams({name}))"
            in_name = f"authsvc.owned(owner_id, authsvc.trigrams(folded_name)) @> {trigrams}"
            self._indexed.append(f"({in_name} OR {prefix})")
