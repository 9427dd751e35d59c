"""Sharing a commit: changes that are requested at the same time are made by one statement.

Mechanism: a statement that is under way gathers the changes that arrive meanwhile. Each change was judged
before, and the statement compares what it was judged by under its locks. A shared statement leaves out what
would have to wait for a lock, so no owner waits here for the locks of another. What was left out gets a
statement of its own, which waits.

Bound: 32 changes in a statement; one statement at a time for callers of the platform, and one for all others.
Of one owner, 100 changes share statements. Further ones, those that have waited for a second, and those that
find the queue full get statements of their own, in slots of the owner.

Failure: an error of the database is raised for all changes of the statement. After any other error, such as
that the time of one caller was over before the commit, each gets a statement of its own.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.errors import AuthsvcError
from authsvc.store.shared_statement import NoTurn, SharedStatement
from authsvc.store.uncancelled import uncancelled

_log = logging.getLogger(__name__)

Change = TypeVar("Change")
Made = TypeVar("Made")

_MAX_WAITING, _MAX_SHARING, _MAX_SHARING_OF_OWNER = 1000, 32, 100


class SharedCommit(Generic[Change, Made]):
    """Calls `execute` with the owner of a slot, changes, and whether to leave out those that have to wait.

    It returns what was made of each change, None for nothing.
    """

    def __init__(
        self, execute: Callable[[str, Sequence[Change], bool], Awaitable[Sequence[Made | None]]]
    ) -> None:
        self._execute = execute
        # Apart, so that the platform does not wait for others.
        self._of_platform = self._shared(PLATFORM_OWNER)
        self._of_others = self._shared("")
        self._sharing: Counter[str] = Counter()  # changes by owner

    def _shared(self, owner_id: str) -> SharedStatement[Change, Made | None]:
        async def execute(changes: Sequence[Change]) -> Sequence[Made | None]:
            try:
                return await self._execute(owner_id, changes, True)
            except AuthsvcError:
                raise
            except Exception as error:  # noqa: BLE001 - raised again for the change that it is about
                _log.debug("changes that share a statement are made one by one: %r", error)
                return [None] * len(changes)

        return SharedStatement.prompt(
            execute, max_waiting=_MAX_WAITING, full="too many changes wait", max_sharing=_MAX_SHARING
        )

    async def make(self, caller: Caller, change: Change) -> Made | None:
        """Make a change by a shared statement, or by one of its own; return what was made.

        It is not cancelled with the caller. Raises what `execute` raises.
        """
        return await uncancelled(self._make(caller, change))

    async def _make(self, caller: Caller, change: Change) -> Made | None:
        owner_id = caller.quota_owner
        if self._sharing[owner_id] < _MAX_SHARING_OF_OWNER:
            shared = self._of_platform if caller.confined_to is None else self._of_others
            self._sharing[owner_id] += 1
            try:
                if (made := await shared.ask_in_turn(change)) is not None:
                    return made
            except NoTurn:
                pass
            finally:
                self._sharing[owner_id] -= 1
                if not self._sharing[owner_id]:
                    del self._sharing[owner_id]
        return await self.make_alone(caller, change)

    async def make_alone(self, caller: Caller, change: Change) -> Made | None:
        """Make a change by a statement of its own, in a slot of the caller's owner; return what was made."""
        [made] = await self._execute(caller.quota_owner, [change], False)
        return made
