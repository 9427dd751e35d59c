"""How calls over HTTP end when their client goes, or the worker stops; and TLS with certificates."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg

from authsvc.v1 import resources_pb2
from tests.certificates import Authority, replace
from tests.conftest import Clock, Service, eventually, serving
from tests.keys.test_revocation_at_once import held_chain
from tests.rpc.secure import Files
from tests.web.conftest import Web
from tests.web.http_channel import JSON, http_client

CREATE, LIST = "/authsvc.v1.KeyService/CreateKey", "/authsvc.v1.KeyService/ListKeys"
REQUEST = '{"owner_id": "acme", "display_name": "Orders", "request_id": "r-1"}'


def head(path: str, body: str, key: str, *more: str) -> bytes:
    """Return a request as it is sent."""
    lines = (
        f"POST {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"authorization: Bearer {key}",
        f"content-length: {len(body)}",
        *more,
    )
    return "\r\n".join((*lines, "", body)).encode()


async def keys(service: Service) -> list[Any]:
    return list((await service.admin.ListKeys(owner_id="acme")).keys)


async def connections(service: Service) -> float | None:
    await asyncio.sleep(0)  # the service is in this event loop
    return service.app.metrics.registry.get_sample_value("authsvc_web_connections")


async def wait_for_long(database_url: str) -> None:
    """Let the statement that creates a key wait for a lock for as long as it takes."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "ALTER FUNCTION authsvc.create_keys(jsonb, boolean, boolean, timestamptz) SET lock_timeout = '60s'"
    )
    await connection.close()


async def test_a_client_that_goes_while_a_key_is_created(web: Web, database_url: str) -> None:
    """The key is shown as never delivered, and a call with the same request_id replaces it."""
    service = web.service
    first = await service.admin.CreateKey(owner_id="acme", display_name="first")
    await wait_for_long(database_url)
    async with held_chain(database_url) as chain:
        _, writer = await asyncio.open_connection("127.0.0.1", service.app.web_port)
        writer.write(head(CREATE, REQUEST, service.admin_key))
        await chain.waited_for(1)
        writer.transport.abort()
        await eventually(lambda: connections(service), lambda count: count == 0)
        await chain.release()
    await eventually(lambda: keys(service), lambda found: any(key.never_delivered for key in found))
    [lost] = [key for key in await keys(service) if key.key_id != first.key.key_id]
    answer = await web.http.post(CREATE, REQUEST, service.admin_key)
    assert answer.status == 200
    found = {key.key_id: key for key in await keys(service)}
    new, old = found[answer.json["key"]["keyId"]], found[lost.key_id]
    assert (new.never_delivered, new.state) == (False, resources_pb2.KEY_STATE_ACTIVE)
    assert (old.never_delivered, old.state) == (True, resources_pb2.KEY_STATE_REVOKED)


async def test_a_key_that_was_delivered(web: Web) -> None:
    """The connection has taken its answer."""
    await web.admin.CreateKey(owner_id="acme", display_name="x")
    await web.service.app.keys.deliveries.flush()
    assert [key.never_delivered for key in await keys(web.service)] == [False]


async def test_a_client_that_goes_before_its_message(web: Web) -> None:
    """Its call ends, and holds nothing any more."""
    service = web.service
    request = head(LIST, REQUEST, service.admin_key)
    _, writer = await asyncio.open_connection("127.0.0.1", service.app.web_port)
    writer.write(request[:-10])
    await eventually(lambda: connections(service), lambda count: count == 1)
    writer.transport.abort()
    await eventually(lambda: connections(service), lambda count: count == 0)


async def test_a_worker_that_stops(database_url: str, clock: Clock) -> None:
    """A call in flight ends; its connection is closed, and no other one is accepted."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(database_url, clock, web_listen="127.0.0.1:0"))
        await service.admin.CreateKey(owner_id="acme", display_name="first")
        await wait_for_long(database_url)
        port = service.app.web_port
        async with held_chain(database_url) as chain:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(CREATE, REQUEST, service.admin_key))
            await chain.waited_for(1)
            stopped = asyncio.create_task(stack.aclose())
            await service.app.readiness.ended()
            await eventually(lambda: accepts(port), lambda accepted: not accepted)
            assert not stopped.done()
            await chain.release()
        answer = await reader.read()
        await stopped
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def accepts(port: int) -> bool:
    """Return whether a connection is accepted at a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.transport.abort()
    return True


@asynccontextmanager
async def secured(
    database_url: str, clock: Clock, authority: Authority, files: Files, **given: Any
) -> AsyncIterator[Service]:
    async with serving(
        database_url,
        clock,
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
        web_listen="127.0.0.1:0",
        **given,
    ) as service:
        yield service


def context_of(authority: Authority, files: Files, **name: Any) -> ssl.SSLContext:
    """Return the context of a client, with a certificate if it has a name."""
    context = ssl.create_default_context(cadata=authority.cert.decode())
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    if name:
        pair = authority.issue(**name)
        cert, key = files.directory / "client.pem", files.directory / "client.key"
        replace(cert, pair.cert)
        replace(key, pair.key)
        context.load_cert_chain(cert, key)
    return context


async def test_callers_by_certificate(
    database_url: str, clock: Clock, authority: Authority, files: Files
) -> None:
    """A call without a credential is that of the certificate, as over gRPC."""
    callers = files.directory / "callers.toml"
    callers.write_text(
        '[[caller]]\nspiffe_id = "spiffe://example.org/a"\nowner_id = "acme"\nscopes = ["keys:read"]\n'
    )
    async with secured(
        database_url, clock, authority, files, callers=callers, tls_client_auth="optional"
    ) as service:
        origin, heard = f"https://127.0.0.1:{service.app.web_port}", []
        for name in ({"uris": ("spiffe://example.org/a",)}, {"uris": ("spiffe://example.org/b",)}, {}):
            async with http_client(origin, context_of(authority, files, **name)) as http:
                for owner in ("acme", "globex"):
                    answer = await http.post(LIST, json.dumps({"owner_id": owner}))
                    told = [each["debug"]["reason"] for each in answer.json.get("details", [])[:1]]
                    heard.append((answer.status, *told))
    assert heard == [
        (200,),
        (403, "OWNER_NOT_PERMITTED"),
        (401, "CERTIFICATE_UNKNOWN"),
        (401, "CERTIFICATE_UNKNOWN"),
        (401, "CREDENTIAL_MISSING"),
        (401, "CREDENTIAL_MISSING"),
    ]


async def test_only_http_1(database_url: str, clock: Clock, authority: Authority, files: Files) -> None:
    """TLS agrees on it, and a client without a certificate is not served where one is required."""
    async with secured(database_url, clock, authority, files) as service:
        context = context_of(authority, files, subject="CN=client")
        _, writer = await asyncio.open_connection("127.0.0.1", service.app.web_port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.transport.abort()
        async with http_client(f"https://127.0.0.1:{service.app.web_port}", context) as http:
            assert (await http.post(LIST, '{"owner_id": "a"}', service.admin_key, JSON)).status == 200
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.app.web_port, ssl=context_of(authority, files)
        )
        writer.write(head(LIST, "{}", service.admin_key))
        with suppress(ConnectionError, ssl.SSLError):
            assert await reader.read() == b""
        writer.transport.abort()
