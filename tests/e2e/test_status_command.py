"""`authsvc status` and `authsvc keys revoke`, while a client holds credentials."""

import asyncio
import re

from tests.e2e.process import Server
from tests.rpc.following import following


async def test_clients_are_shown(dev: Server) -> None:
    """With what they hold, and without what their names would do to a terminal; a revocation names them."""
    async with dev.client() as admin, following(dev.address, dev.admin_key) as client:
        made = await admin.CreateKey(owner_id="acme", display_name="Orders")
        await client.join(instance="shop\x1b[31m")
        await client.hold(made.key_string)
        shown = ""
        while "shop" not in shown:  # the report of its worker comes within seconds
            shown = (await asyncio.to_thread(dev.run, "status")).stdout
        assert re.search(
            r"^ shop\\x1b\[31m +127\.0\.0\.1 +key_\w{26} +\d+ on \S+ +1 +0 +following", shown, re.MULTILINE
        )
        done = await asyncio.to_thread(dev.run, "keys", "revoke", made.key.key_id)
        assert re.fullmatch(
            r"Confirmed for all workers and the client that holds credentials, "
            r"\d+\.\d ms after the commit\.\n",
            done.stderr,
        )
        await client.send(leave={})


async def test_nothing_is_said_without_clients(dev: Server) -> None:
    """`authsvc status` has one table then."""
    shown = "credential"
    while "credential" in shown:  # those of other tests have left; their worker notes it within seconds
        shown = (await asyncio.to_thread(dev.run, "status")).stdout
    assert "registration" in shown
