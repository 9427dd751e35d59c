"""A browser that goes away before it has the page with its new key."""

import asyncio
from urllib.parse import urlencode

from authsvc.v1.resources_pb2 import KEY_STATE_REVOKED
from tests.conftest import Clock, eventually, serving
from tests.keys.test_revocation_at_once import held_chain
from tests.web.console.conftest import Browser
from tests.web.test_ends import connections, keys, wait_for_long


async def test_a_browser_that_goes_while_a_key_is_created(database_url: str, clock: Clock) -> None:
    """The key is shown as never delivered; the same form sent again replaces it, and shows the new one."""
    async with serving(
        database_url, clock, web_listen="127.0.0.1:0", console_url="http://127.0.0.1:1"
    ) as service:
        first = await service.admin.CreateKey(owner_id="acme", display_name="first")
        address = f"127.0.0.1:{service.app.web_port}"
        browser = Browser(f"http://{address}")
        async with browser.http:
            await browser.sign_in(service.admin_key)
            await browser.open("/keys/new", owner="acme")
            body = urlencode({**browser.form("/keys/new"), "name": "Orders"}, doseq=True)
            lines = (
                "POST /keys/new HTTP/1.1",
                f"host: {address}",
                "content-type: application/x-www-form-urlencoded",
                f"cookie: authsvc={browser.http.cookies['authsvc']}",
                f"content-length: {len(body)}",
            )
            await wait_for_long(database_url)
            async with held_chain(database_url) as chain:
                _, writer = await asyncio.open_connection("127.0.0.1", service.app.web_port)
                writer.write("\r\n".join((*lines, "", body)).encode())
                await chain.waited_for(1)
                writer.transport.abort()
                # That of the browser that signed in is left.
                await eventually(lambda: connections(service), lambda count: count == 1)
                await chain.release()
            await eventually(lambda: keys(service), lambda found: any(key.never_delivered for key in found))
            [lost] = [key for key in await keys(service) if key.key_id != first.key.key_id]
            shown = await browser.send("/keys/new", name="Orders")
        assert "data-secret" in shown.text
        assert lost.key_id not in shown.text
        states = {key.key_id: key.state for key in await keys(service)}
        assert states[lost.key_id] == KEY_STATE_REVOKED
