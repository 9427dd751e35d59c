"""A change of the credits of a key, which is locked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from authsvc.model.credits import Credits, gives_more
from authsvc.model.key import Key
from authsvc.store import credits as credit_store
from authsvc.store.pool import Connection


@dataclass(frozen=True)
class CreditChange:
    """The account that the key may have, and what is wanted: None for no bound."""

    account: credit_store.Account
    wanted: Credits | None

    @classmethod
    async def begin(cls, connection: Connection, key: Key, fields: Mapping[str, object]) -> Self | None:
        """Lock the account of a locked key if its credits are among the fields to change; None otherwise."""
        if "credits" not in fields:
            return None
        wanted = fields["credits"]
        return cls(await credit_store.lock(connection, key), wanted if isinstance(wanted, Credits) else None)

    @property
    def before(self) -> Credits | None:
        """The credits that the key has now."""
        return self.account.of_key

    @property
    def after(self) -> Credits | None:
        """The credits that it is to have. Raises InvalidArgument if it is not known how many."""
        return None if self.wanted is None else self.wanted.over(self.before, "key.credits")

    @property
    def is_kept(self) -> bool:
        """Whether what remains stays, and what workers have borrowed of it."""
        return self.before is not None and self.wanted is not None and self.wanted.remaining is None

    @property
    def is_reset(self) -> bool:
        """Whether what remains is set anew: also to the same number, if workers have taken some."""
        return self.wanted is not None and not self.is_kept and self.account.spent > 0

    @property
    def gives_more(self) -> bool:
        """Whether this key, or another one that shares the account, could take more units than now."""
        after, shared = self.after, self.account.credits
        return gives_more(self.before, after) or (
            after is not None and shared is not None and gives_more(shared, after)
        )

    async def carry_out(self, connection: Connection, changed: Key) -> Key:
        """Write the credits of the changed key; return it as it is now."""
        return await credit_store.given(connection, changed, is_kept=self.is_kept)
