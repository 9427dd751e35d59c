"""The question to the database whether a session is still active, when this worker cannot know.

Each worker writes the activity that it sees with a delay, so close to the idle end only the database can
tell. `model/activity.py` explains why this makes all workers agree.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc.model.activity import Activity
from authsvc.model.credential import Credential
from authsvc.model.use import Use, noted
from authsvc.verify.question import Question


class ActivityStore(Protocol):
    """The recorded activity of sessions. Both raise RetryableError when the database cannot answer."""

    async def find_activity(self, session_id: str, now: datetime) -> datetime | None:
        """Return the last activity that any worker has recorded; None for a session that is over at `now`.

        None is final: no activity is recorded from then on.
        """

    async def record_activity(self, use: Use) -> datetime | None:
        """Record an activity durably; return the last recorded one, or None when the session is over."""


class ActivityCheck:
    """Asks the database about sessions near or past their idle end, once for all who wait."""

    def __init__(self, *, store: ActivityStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}

    async def check(self, question: Question, credential: Credential | None) -> None:
        """Bring the activity of a session up to date, so that it can be judged.

        Callers that ask about one session at the same time share one query. Raises RetryableError when the
        database cannot answer.
        """
        if credential is None or (activity := credential.activity) is None:
            raise AssertionError("only the activity of a session can be uncertain")
        session_id = credential.credential_id
        task = self._running.get(session_id)
        if task is None:
            use = Use(
                session_id,
                self._clock(),
                question.client_ip,
                noted(question.user_agent),
                question.client_hints,
            )
            task = self._running[session_id] = asyncio.create_task(self._ask(activity, use))
            task.add_done_callback(lambda _: self._running.pop(session_id))
            # Retrieve the error in case every caller has gone; those that wait see it anyway.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(task)

    async def _ask(self, activity: Activity, use: Use) -> None:
        """Before the known idle end, record this activity; after it, ask whether another worker saw some."""
        if activity.is_idle(use.time):
            recorded = await self._store.find_activity(use.credential_id, use.time)
        else:
            recorded = await self._store.record_activity(use)
        if recorded is None:
            activity.end()
        else:
            activity.learn(recorded)
