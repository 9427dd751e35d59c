"""The strings that a worker was asked for, and that it has not answered yet.

Mechanism: callers that present the same string wait for one answer. What is found is held at the moment at
which the answer is read from the stream, in the order of everything else on it.

Bound: `_MAX_AWAITED` strings at a time. A caller beyond that asks by the RPC.

Failure: so does a caller whose answer takes too long. Until something arrives on the stream, no other caller
waits then, since the worker may hang.
"""

import asyncio
from enum import Enum

from authsvc.client.held import NUMBERS, credential_of
from authsvc.client.memory import Memory
from authsvc.client.outbox import Outbox
from authsvc.model.credential import CredentialKind
from authsvc.model.key_string import TAIL_LENGTH, has_form
from authsvc.v1 import holder_service_pb2 as pb

_MAX_AWAITED = 1000
# That an answer takes less than this proves nothing.
_SILENT_AFTER_SECONDS = 0.05


class Found(Enum):
    """What a look-up has found: a credential, which is now held, none with this string, or no answer."""

    HELD = "held"
    NOTHING = "nothing"
    UNANSWERED = "unanswered"


class _Asked:
    __slots__ = ("digest", "found", "prefix")

    def __init__(self, prefix: str, digest: bytes) -> None:
        self.prefix = prefix
        self.digest = digest
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()

    def tell(self, found: Found) -> None:
        if not self.found.done():
            self.found.set_result(found)


class LookUps:
    """Those of one stream. They begin with `open`."""

    def __init__(self, memory: Memory, outbox: Outbox) -> None:
        self._memory = memory
        self._outbox = outbox
        self._is_open = False
        self._is_silent = False
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._by_digest: dict[bytes, _Asked] = {}

    @property
    def prefixes(self) -> set[str]:
        """The prefixes of the strings whose answers are awaited."""
        return {asked.prefix for asked in self._asked.values()}

    async def find(self, presented: str, kind: CredentialKind, timeout: float) -> Found:
        """Ask for the credential of a string, once for all who wait, and wait for the answer.

        That there is none is told only to who asked first: for others it may be from before their call.
        """
        is_first = self._memory.digest(presented) not in self._by_digest
        answer = self.ask(presented, kind)
        if answer is None:
            return Found.UNANSWERED
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.shield(answer)
        except TimeoutError:
            self._is_silent = timeout > _SILENT_AFTER_SECONDS
            return Found.UNANSWERED
        return found if is_first or found is not Found.NOTHING else Found.UNANSWERED

    def ask(self, presented: str, kind: CredentialKind) -> asyncio.Future[Found] | None:
        """Ask for the credential of a string, unless that is under way; None if it is not to be awaited."""
        if not self._is_open or self._is_silent or not has_form(presented):
            return None
        digest = self._memory.digest(presented)
        asked = self._by_digest.get(digest)
        if asked is None:
            if len(self._asked) >= _MAX_AWAITED:
                return None
            self._number += 1
            asked = _Asked(presented[:-TAIL_LENGTH], digest)
            self._asked[self._number] = self._by_digest[digest] = asked
            hold = pb.FollowRequest.Hold(number=self._number, credential=presented, kind=NUMBERS[kind])
            self._outbox.put(pb.FollowRequest(hold=hold))
        return asked.found

    def take(self, held: pb.FollowResponse.Held) -> None:
        """Hold what was found. Raise ValueError for an answer that breaks the protocol."""
        asked = self._asked.pop(held.number, None)
        if asked is None:
            raise ValueError("an answer that was not asked for")
        del self._by_digest[asked.digest]
        found = Found.UNANSWERED
        try:
            if held.HasField("credential"):
                credential = credential_of(held.credential)
                if self._is_open:
                    self._memory.admit(asked.prefix, asked.digest, credential)
                    found = Found.HELD
            elif not held.unanswered:
                found = Found.NOTHING
        finally:
            asked.tell(found)

    def open(self) -> None:
        """Begin, once there is a sub-lease."""
        self._is_open = True

    def hear(self) -> None:
        """Note that something has arrived on the stream."""
        self._is_silent = False

    def close(self) -> None:
        """Let those who wait ask by the RPC, and take nothing any more."""
        self._is_open = False
        for asked in self._asked.values():
            asked.tell(Found.UNANSWERED)
