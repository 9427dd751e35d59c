"""`authsvc bootstrap`: an administrator key, created without a caller."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from authsvc.keys.create import KeyCreation
from authsvc.keys.minting import NewKeyString
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.new_key import NewKey
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import keys as key_store
from authsvc.store.pool import Database


class AdministratorCreation(KeyCreation, Protocol):
    """Creates administrator keys: keys of the platform's owner with full access."""

    _database: Database
    _clock: Callable[[], datetime]

    async def ensure_administrator(
        self, *, another: bool = False, display_name: str = "administrator", ttl: timedelta | None = None
    ) -> NewKeyString | None:
        """Create an administrator key if there is no active one, or if `another` is set.

        Return its key string, or None if no key was created. Of several calls at the same time without
        `another`, one creates a key. Without a `ttl`, the key does not expire.

        Raises:
            InvalidArgument: INVALID_FIELD, if `ttl` is not positive or longer than 100 years.
        """
        async with self._database.transaction() as connection:
            await key_store.alone_for_administrator(connection)
            exists = await key_store.has_active_owner_key(
                connection, PLATFORM_OWNER, FULL_ACCESS, self._clock()
            )
            if exists and not another:
                return None
            administrator = NewKey(
                owner_id=PLATFORM_OWNER,
                display_name=display_name,
                scopes=(FULL_ACCESS,),
                expiration=ExpirationPreset.UNLIMITED if ttl is None else ttl,
            )
            _, minted = await self.create(BOOTSTRAP, administrator)
        return minted
