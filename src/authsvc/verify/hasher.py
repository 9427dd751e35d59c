"""The argon2 pool: hashes, verifies and seals secrets in threads.

Mechanism: a few threads (argon2 releases the GIL) behind a queue. The cost depends on the origin of the
secret: 256 random bits cannot be guessed, so a light argon2id is enough for them (RFC 9106 is about
passwords).

Bound: `queue_limit` jobs wait or run. Further jobs are refused with Overloaded. Anybody can cause the proof
of a foreign string, who knows its public beginning. So proofs of foreign strings have half of the threads and
half of the queue, and those of one look-up `_MAX_GUESSES` places in it: the rest is for strings with a tag.

Failure: a stored hash that cannot be read is Unavailable, never "wrong secret".
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import DEFAULT_HASH_LENGTH, PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from authsvc.model.errors import Overloaded, Unavailable
from authsvc.verify.foreign_proof import is_proved

T = TypeVar("T")

# Secrets that this service generated: 256 random bits.
MINTED = "minted"
# Secrets that others chose: the minimum that OWASP recommends for argon2id, 19 MiB and two passes.
IMPORTED = "imported"

_PROFILES = {
    MINTED: PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1),
    IMPORTED: PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),
}


# Proofs of one look-up that wait or run.
_MAX_GUESSES = 4


class Hasher:
    """A bounded argon2id pool."""

    def __init__(self, *, threads: int, queue_limit: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        #: How many jobs may wait or run.
        self.queue_limit = queue_limit
        self.pending = 0
        self.runs = 0
        self._foreign = asyncio.Semaphore(max(1, threads // 2))
        self._max_foreign = max(1, queue_limit // 2)
        self._guesses: Counter[str] = Counter()  # proofs of foreign strings that wait or run, by look-up

    async def hash(self, secret: str, origin: str) -> str:
        """Return the argon2id string of a secret, at the cost for its origin. Raises Overloaded."""
        return await self.run(lambda: _PROFILES[origin].hash(secret))

    async def verify(self, secret: str, secret_hash: str) -> bool:
        """Return whether a hash is that of this secret; the cost is stated in the hash.

        Raises Overloaded when the queue is full, and Unavailable when the hash cannot be read.
        """
        try:
            return await self.run(lambda: _PROFILES[MINTED].verify(secret_hash, secret))
        except VerifyMismatchError as error:
            if extract_parameters(secret_hash).hash_len < DEFAULT_HASH_LENGTH:  # It was cut off.
                raise _unreadable() from error
            return False
        except (VerificationError, ValueError) as error:
            raise _unreadable() from error

    async def verify_foreign(self, look_up: str, secret: str, secret_hash: str) -> bool:
        """Return whether a hash that another system has kept is that of this secret.

        Raises Overloaded when the queue is full, or its part for foreign strings or for this look-up, and
        Unavailable when the hash cannot be read.
        """
        if self._guesses.total() >= self._max_foreign or self._guesses[look_up] >= _MAX_GUESSES:
            raise _full()
        self._guesses[look_up] += 1
        try:
            async with self._foreign:
                return await self.run(lambda: is_proved(secret, secret_hash))
        except (VerificationError, ValueError) as error:
            raise _unreadable() from error
        finally:
            self._guesses[look_up] -= 1
            if not self._guesses[look_up]:
                del self._guesses[look_up]

    def is_outdated(self, secret_hash: str, origin: str) -> bool:
        """Return whether a hash has another form or cost than its origin requires today."""
        try:
            return _PROFILES[origin].check_needs_rehash(secret_hash)
        except InvalidHashError:
            return True

    def close(self) -> None:
        """Wait for running jobs and drop waiting ones."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def run(self, job: Callable[[], T]) -> T:
        """Return the result of a job that computes and releases the GIL meanwhile. Raises Overloaded."""
        if self.pending >= self.queue_limit:
            raise _full()
        self.pending += 1
        self.runs += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, job)
        running.add_done_callback(self._ended)
        # The thread finishes a job whose caller has gone, so the job keeps its place in the queue until then.
        return await asyncio.shield(running)

    def _ended(self, job: "asyncio.Future[T]") -> None:
        self.pending -= 1
        if not job.cancelled():
            job.exception()  # Retrieve the error in case the caller has gone.


def _full() -> Overloaded:
    return Overloaded(
        "too many secrets are being verified at once; retry after the delay in RetryInfo",
        reason="HASHER_QUEUE_FULL",
        retry_after=0.2,
    )


def _unreadable() -> Unavailable:
    return Unavailable(
        "the stored hash of this key cannot be read; restore it from a backup, or replace the key",
        reason="PROOF_UNREADABLE",
        retry_after=60,
    )
