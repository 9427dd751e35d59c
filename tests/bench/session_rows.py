"""A large number of sessions, inserted as rows, because creation by RPC would take too long."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, KeyMint
from authsvc.verify.session_digest import session_digest

USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
COLUMNS = (
    "session_id",
    "owner_id",
    "key_prefix",
    "secret_hash",
    "scopes",
    "annotations",
    "create_time",
    "creator_id",
    "latest_expire_time",
    "idle_timeout",
    "last_activity_time",
    "user_agent",
    "ip_address",
    "epoch",
)
_CREATOR = "key_01jd3v5q8m0k2n4p6r8s0t2v4w"
INSERT = f"""
INSERT INTO authsvc.sessions ({", ".join(COLUMNS)})
VALUES ({", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))})
"""  # noqa: S608 - nothing in it comes from outside
_GENERATE = """
INSERT INTO authsvc.sessions (
    session_id, owner_id, key_prefix, secret_hash, scopes, annotations, create_time, creator_id,
    latest_expire_time, idle_timeout, last_activity_time, user_agent, ip_address, epoch)
SELECT 'ses_' || substr(md5($1 || number), 1, 26), $1, 'authsvc_session_' || substr(md5($1 || number), 1, 20),
       'sha256:', '{orders:read}', '{}', now(), $3, now() + interval '30 days', interval '7 days', now(), $4,
       '192.0.2.7', 0
  FROM generate_series(1, $2::int) AS number
"""


class Made(NamedTuple):
    """A session in the database, and its token."""

    session_id: str
    token: str


async def mint(connection: "asyncpg.Connection[asyncpg.Record]") -> KeyMint:
    """Return the mint of the service that uses this database."""
    return KeyMint(await connection.fetchval("SELECT tag_key FROM authsvc.tag_keys"))


async def insert(
    connection: "asyncpg.Connection[asyncpg.Record]", mint: KeyMint, owner_ids: Sequence[str]
) -> list[Made]:
    """Insert a session for each owner, with a valid token."""
    now = datetime.now(UTC)
    made, rows = [], []
    for owner_id in owner_ids:
        minted = mint.mint("authsvc", SESSION)
        session_id = new_identifier("ses", now)
        made.append(Made(session_id, minted.text))
        scopes, ends, idle = ["orders:read"], now + timedelta(days=30), timedelta(days=7)
        known = (session_id, owner_id, minted.prefix, session_digest(minted.secret), scopes, "{}", now)
        rows.append((*known, _CREATOR, ends, idle, now, USER_AGENT, "192.0.2.7", 0))
    await connection.copy_records_to_table("sessions", schema_name="authsvc", columns=COLUMNS, records=rows)
    return made


async def generate(connection: "asyncpg.Connection[asyncpg.Record]", owner_id: str, count: int) -> None:
    """Insert sessions with unknown tokens."""
    await connection.execute(_GENERATE, owner_id, count, _CREATOR, USER_AGENT)
