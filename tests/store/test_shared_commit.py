"""Changes that share a commit, and those that get a statement of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Unavailable
from authsvc.store import shared_commit, shared_statement
from authsvc.store.shared_commit import SharedCommit

ACME, PLATFORM = (Caller(f"key_{owner}", owner, (), CredentialKind.KEY) for owner in ("acme", "authsvc"))


class Statements:
    """Records statements as (owner of the slot, changes, at once), and makes changes by `make`."""

    def __init__(self, make: Callable[[Sequence[str], bool], Awaitable[list[str | None]]]) -> None:
        self.sent: list[tuple[str, list[str], bool]] = []
        self.commits = SharedCommit(self._execute)
        self._make = make

    async def _execute(self, owner_id: str, changes: Sequence[str], at_once: bool) -> list[str | None]:
        self.sent.append((owner_id, list(changes), at_once))
        return await self._make(changes, at_once)

    async def all(self, *changes: str, caller: Caller = ACME) -> list[str | BaseException | None]:
        return await asyncio.gather(
            *(self.commits.make(caller, change) for change in changes), return_exceptions=True
        )


async def made(changes: Sequence[str], at_once: bool) -> list[str | None]:
    return [change.upper() for change in changes]


async def test_changes_at_the_same_time_share_a_statement() -> None:
    """Those of the platform have statements of their own, and its slots."""
    statements = Statements(made)
    of_acme = asyncio.ensure_future(statements.all("a", "b", "c"))
    assert await statements.all("x", "y", caller=PLATFORM) == ["X", "Y"]
    assert await of_acme == ["A", "B", "C"]
    assert sorted(statements.sent) == [("", ["a", "b", "c"], True), ("authsvc", ["x", "y"], True)]


async def test_who_is_left_out_waits_alone() -> None:
    """In a slot of its owner, and without holding up others."""

    async def one_has_to_wait(changes: Sequence[str], at_once: bool) -> list[str | None]:
        return [None if change == "b" and at_once else change.upper() for change in changes]

    statements = Statements(one_has_to_wait)
    assert await statements.all("a", "b") == ["A", "B"]
    assert statements.sent == [("", ["a", "b"], True), ("acme", ["b"], False)]


async def test_an_error_of_one_is_told_to_that_one() -> None:
    """Such as that the time of its caller is over: the statement was rolled back, and each is made alone."""

    async def one_is_wrong(changes: Sequence[str], at_once: bool) -> list[str | None]:
        if "b" in changes:
            raise ValueError("b")
        return await made(changes, at_once)

    statements = Statements(one_is_wrong)
    first, second, third = await statements.all("a", "b", "c")
    assert (first, third) == ("A", "C")
    assert isinstance(second, ValueError)
    assert [at_once for _, _, at_once in statements.sent] == [True, False, False, False]


async def test_an_outage_is_told_to_all() -> None:
    """What was committed is not known, so nothing is done again."""

    async def out_of_reach(changes: Sequence[str], at_once: bool) -> list[str | None]:
        raise Unavailable("out of reach", reason="DATABASE_UNAVAILABLE", retry_after=1)

    statements = Statements(out_of_reach)
    assert [type(each) for each in await statements.all("a", "b")] == [Unavailable, Unavailable]
    assert len(statements.sent) == 1


@pytest.mark.parametrize("setting", ["_MAX_TURN_SECONDS", "_MAX_SHARING_OF_OWNER", "_MAX_WAITING"])
async def test_a_statement_that_hangs_holds_nobody_up(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get statements of their own: those that have waited, and those that find too many waiting."""
    if setting == "_MAX_TURN_SECONDS":
        monkeypatch.setattr(shared_statement, setting, 0.01)
    else:
        monkeypatch.setattr(shared_commit, setting, 1)
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def first_hangs(changes: Sequence[str], at_once: bool) -> list[str | None]:
        if "a" in changes:
            began.set()
            await goes_on.wait()
        return await made(changes, at_once)

    statements = Statements(first_hangs)
    hanging = asyncio.ensure_future(statements.all("a"))
    await began.wait()
    if setting == "_MAX_WAITING":
        waiting = asyncio.ensure_future(statements.all("b"))
        for _ in range(5):  # Turns of the event loop, until it waits.
            await asyncio.sleep(0)
        assert statements.commits._of_others._waiting
    assert await asyncio.wait_for(statements.all("c"), 10) == ["C"]
    assert ("acme", ["c"], False) in statements.sent
    assert not hanging.done()
    goes_on.set()
    assert await hanging == ["A"]
    if setting == "_MAX_WAITING":
        assert await waiting == ["B"]


async def test_a_change_is_not_cancelled_with_its_caller() -> None:
    """Workers have to hear of what is committed."""
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(changes: Sequence[str], at_once: bool) -> list[str | None]:
        began.set()
        await goes_on.wait()
        return await made(changes, at_once)

    statements = Statements(slowly)
    calling = asyncio.ensure_future(statements.commits.make(ACME, "a"))
    await began.wait()
    calling.cancel()
    await asyncio.sleep(0)
    assert not calling.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
