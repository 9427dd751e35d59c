"""The argon2 pool: hashes and proves secrets off the event loop.

Mechanism: a few threads (argon2 releases the GIL) behind a queue. The cost
depends on where the secret comes from: 256 random bits cannot be guessed at any
price, so a light argon2id is ample for them (RFC 9106 is about passwords).

Bound: `queue_limit` jobs waiting or running; the next one is refused with
Overloaded, which says when to come back.

Failure: a stored hash that cannot be read is Unavailable, never "wrong secret".
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import DEFAULT_HASH_LENGTH, PasswordHasher, extract_parameters
from argon2.exceptions import VerificationError, VerifyMismatchError

from authsvc.model.errors import Overloaded, Unavailable

T = TypeVar("T")

# Secrets that we minted: 256 random bits.
MINTED = "minted"
# Secrets that somebody else chose: OWASP's argon2id minimum, 19 MiB and two passes.
IMPORTED = "imported"

_PROFILES = {
    MINTED: PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1),
    IMPORTED: PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),
}


class Hasher:
    """A bounded argon2id pool."""

    def __init__(self, *, threads: int, queue_limit: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._queue_limit = queue_limit
        self.pending = 0
        self.runs = 0

    async def hash(self, secret: str, origin: str) -> str:
        """Return the argon2id string to keep for a secret of this origin."""
        return await self._run(lambda: _PROFILES[origin].hash(secret))

    async def verify(self, secret: str, secret_hash: str) -> bool:
        """Say whether the hash is the secret's, at the cost that the hash itself states."""
        try:
            return await self._run(lambda: _PROFILES[MINTED].verify(secret_hash, secret))
        except VerifyMismatchError as error:
            if extract_parameters(secret_hash).hash_len < DEFAULT_HASH_LENGTH:  # One that lost its end.
                raise _unreadable() from error
            return False
        except (VerificationError, ValueError) as error:
            raise _unreadable() from error

    def is_outdated(self, secret_hash: str, origin: str) -> bool:
        """Say whether the hash was made at another cost than its origin's profile asks for today."""
        return _PROFILES[origin].check_needs_rehash(secret_hash)

    def close(self) -> None:
        """Let running jobs end and drop waiting ones."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        if self.pending >= self._queue_limit:
            raise Overloaded(
                "too many secrets are being proved at once; retry after the delay in RetryInfo",
                reason="HASHER_QUEUE_FULL",
                retry_after=0.2,
            )
        self.pending += 1
        self.runs += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, job)
        running.add_done_callback(self._ended)
        # A caller that goes away does not take its place in the queue along: the thread goes on with the job.
        return await asyncio.shield(running)

    def _ended(self, job: "asyncio.Future[T]") -> None:
        self.pending -= 1
        if not job.cancelled():
            job.exception()  # Seen by whoever waits; nobody may.


def _unreadable() -> Unavailable:
    return Unavailable(
        "the stored proof of this key cannot be read; restore it from a backup, or replace the key",
        reason="PROOF_UNREADABLE",
        retry_after=60,
    )
