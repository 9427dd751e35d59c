"""The platform's first key, before there is any credential."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from authsvc.keys.create import KeyCreation
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.key_string import KeyString
from authsvc.model.new_key import NewKey
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import keys as key_store
from authsvc.store.pool import Database


class AdministratorCreation(KeyCreation, Protocol):
    """Creates keys with which the API can be called at all."""

    _database: Database
    _clock: Callable[[], datetime]

    async def ensure_administrator(
        self, *, another: bool = False, display_name: str = "administrator", ttl: timedelta | None = None
    ) -> KeyString | None:
        """Mint the platform's administrator key when no working one is left, or another if asked for.

        Of several who do so at once one mints, and the others see its key.
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
