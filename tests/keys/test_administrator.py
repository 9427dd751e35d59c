"""The administrator key is created once by any number of calls."""

import asyncio

from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import Settings
from tests.conftest import Clock, serving


async def test_of_several_at_once_one_mints(database_url: str) -> None:
    """The other calls wait for it, and create none."""
    settings = Settings(database_url=SecretStr(database_url))  # type: ignore[call-arg]
    async with app.administering(settings) as one, app.administering(settings) as other:
        minted = await asyncio.gather(*(keys.ensure_administrator() for keys in (one, other) * 3))
    assert sum(key_string is not None for key_string in minted) == 1


async def test_who_asks_for_another_gets_another(database_url: str, clock: Clock) -> None:
    """Each has its own name and expiry; both work."""
    async with serving(database_url, clock) as service:
        another = await service.app.keys.ensure_administrator(another=True, display_name="Ada")
        assert another is not None
        for caller in service.admin, service.as_caller(another.text):
            found = (await caller.ListKeys(owner_id="authsvc")).keys
            assert {key.display_name for key in found} == {"administrator", "Ada"}
