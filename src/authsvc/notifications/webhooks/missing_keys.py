"""Says which keys are missing in AUTHSVC_WEBHOOK_KEYS.

Webhooks whose secret was derived from a key that the operator has removed cannot be called. The notifier
looks for them when it has started and from time to time, and logs what is wrong, once for each key.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.store import webhooks as webhook_store
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)


class MissingKeys:
    """Looks for webhooks whose secrets cannot be derived."""

    def __init__(self, database: Database, keys: SigningKeys, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        # The ids of the keys that were missing at the last look.
        self._missing: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Log a warning for each key that was not missing before."""
        async with self._database.connection() as connection:
            counts = await webhook_store.count_by_key(connection, self._clock())
        missing = {key_id: count for key_id, count in counts.items() if not self._keys.has(key_id)}
        for key_id in sorted(missing.keys() - self._missing):
            _log.warning(
                "AUTHSVC_WEBHOOK_KEYS: the key with the id %s is missing, so %s cannot be called with the "
                "secret that was derived from it; add the key again after the current one, or rotate %s",
                key_id,
                *(
                    ("1 webhook", "that secret")
                    if missing[key_id] == 1
                    else (f"{missing[key_id]} webhooks", "those secrets")
                ),
            )
        self._missing = frozenset(missing)
