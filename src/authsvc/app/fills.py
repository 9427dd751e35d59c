"""What fills the memory of a worker, with a span for each look-up and each proof."""

from authsvc.model.credential import StoredCredential
from authsvc.model.feed import Place
from authsvc.model.policy import OwnerPolicy
from authsvc.store.pool import Database
from authsvc.store.verification import VerificationStore
from authsvc.telemetry.spans import Tracer
from authsvc.verify.hasher import Hasher


class TracedStore(VerificationStore):
    """Looks up credentials."""

    def __init__(self, database: Database, default_policy: OwnerPolicy, tracer: Tracer) -> None:
        super().__init__(database, default_policy)
        self._tracer = tracer

    async def find_credential(self, key_prefix: str) -> tuple[StoredCredential | None, Place]:
        """See `VerificationStore`. The prefix is no secret, and is left out as it says whose key it is."""
        with self._tracer.inside("fill database") as span:
            stored, place = await super().find_credential(key_prefix)
            if span is not None:
                span.note({"authsvc.found": stored is not None})
            return stored, place


class TracedHasher(Hasher):
    """Proves secrets."""

    def __init__(self, *, threads: int, queue_limit: int, tracer: Tracer) -> None:
        super().__init__(threads=threads, queue_limit=queue_limit)
        self._tracer = tracer

    async def verify(self, secret: str, secret_hash: str) -> bool:
        """See `Hasher`."""
        with self._tracer.inside("fill proof", {"authsvc.queue": self.pending}):
            return await super().verify(secret, secret_hash)

    async def verify_foreign(self, look_up: str, secret: str, secret_hash: str) -> bool:
        """See `Hasher`."""
        with self._tracer.inside("fill proof", {"authsvc.queue": self.pending}):
            return await super().verify_foreign(look_up, secret, secret_hash)
