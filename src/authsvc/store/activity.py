"""The recorded activity of sessions. Implements protocols of `verify`."""

from collections.abc import Sequence
from datetime import datetime

from authsvc.model.key_string import redact
from authsvc.model.session import shortened
from authsvc.model.use import Use
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.driver_errors import raise_on_warning
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("verification.sql")


class ActivityStore:
    """Implements `ActivityStore` of `verify.activity_check` and `UseStore` of `verify.usage`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uses = BatchWriter("a last activity", self._record_uses, lambda use: use.credential_id)

    async def find_activity(self, session_id: str, now: datetime) -> datetime | None:
        """Return the last activity that any worker has recorded; None for a session that is over or gone.

        A session that is over at `now` is permanently over: activity that was not recorded yet is refused
        later.
        """
        async with self._database.connection() as connection:
            with raise_on_warning(connection):
                if await connection.fetchval(_SQL["end_idle"], session_id, now):
                    return None
            found: datetime | None = await connection.fetchval(_SQL["find_activity"], session_id)
        return found

    async def record_activity(self, use: Use) -> datetime | None:
        """Record an activity durably; return the last recorded one, or None when the session is over."""
        async with self._database.connection() as connection:
            with raise_on_warning(connection):
                last: datetime | None = await connection.fetchval(
                    _SQL["record_activity"],
                    use.credential_id,
                    use.time,
                    use.client_ip,
                    _presentable(use.user_agent),
                    use.client_hints.as_json(),
                )
        return last

    async def record_uses(self, uses: Sequence[Use]) -> None:
        """Record each activity that is later than the recorded one, except for sessions that are over.

        Activities that the database refuses are set aside.
        """
        await self._uses.write(uses)

    @property
    def refused(self) -> int:
        """How many activities were set aside."""
        return self._uses.refused

    async def _record_uses(self, uses: Sequence[Use]) -> None:
        ids, times, addresses, agents, hints = zip(*uses, strict=True)
        async with self._database.connection() as connection:
            await connection.execute(
                _SQL["record_activities"],
                ids,
                times,
                addresses,
                list(map(_presentable, agents)),
                [told.as_json() for told in hints],
            )


def _presentable(user_agent: str) -> str:
    """Return a user agent as it is stored: without tokens, and cut."""
    return shortened(redact(user_agent))
