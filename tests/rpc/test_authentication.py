"""Authentication of callers: by a key, by a certificate, without either; and the caller's address."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import Authority, replace
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.refusal import missing, refused
from tests.rpc.secure import Files, Secure
from tests.rpc.test_revoke import make

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
ORDERS = "spiffe://example.org/orders"
CALLERS = f"""
[[caller]]
spiffe_id = "{ORDERS}"
owner_id = "authsvc"
scopes = ["keys:verify", "keys:read", "keys:write", "sessions:write", "a"]

[[caller]]
subject = "CN=login,O=Example"
owner_id = "acme"
scopes = ["keys:read", "keys:write"]
"""


@dataclass
class Door(Secure):
    """A service that authenticates callers by certificate."""

    callers: Path

    async def look(self) -> None:
        """Reload the file of callers."""
        assert self.service.app.certified is not None
        await self.service.app.certified.look()

    @asynccontextmanager
    async def client(
        self, subject: str = "CN=somebody", *uris: str, key_string: str | None = None
    ) -> AsyncIterator[Client]:
        """Yield a client with a certificate of this subject and these URIs, and optionally a key."""
        async with self.channel(self.authority.issue(subject, uris=uris)) as channel:
            yield Client(channel, key_string)


@pytest.fixture
async def door(
    database_url: str, clock: Clock, authority: Authority, files: Files, tmp_path: Path
) -> AsyncIterator[Door]:
    callers = tmp_path / "callers.toml"
    callers.write_text(CALLERS)
    async with serving(
        database_url,
        clock,
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
        callers=callers,
        trusted_proxies=(ip_network("127.0.0.1"),),
    ) as service:
        # The administrator's own client has no certificate.
        yield Door(service, authority, files, callers)


async def test_a_spiffe_id_is_a_caller(door: Door) -> None:
    """It acts for its owner with its scopes, and is the creator of what it creates."""
    async with door.client("CN=any", ORDERS) as orders:
        made = await orders.CreateKey(owner_id="globex", display_name="x", scopes=["a"])
        assert made.key.creator_id == ORDERS
        assert (await orders.VerifyKey(key_string=made.key_string)).valid
        rotated = await orders.RotateKey(key_id=made.key.key_id)
        assert rotated.key.creator_id == ORDERS
        session = await orders.CreateSession(owner_id="alice")
        assert session.session.owner_id == "alice"
        assert (await orders.RevokeKey(key_id=rotated.key.key_id)).revoker_id == ORDERS
        with refused(DENIED, "SCOPE_MISSING"):
            await orders.ListSessions(owner_id="alice")
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await orders.CreateKey(owner_id="globex", display_name="x", scopes=["b"])


async def test_a_subject_is_a_caller(door: Door) -> None:
    """The whole subject must match; the caller acts within its owner."""
    async with door.client("CN=login,O=Example") as login:
        made = await login.CreateKey(owner_id="acme", display_name="x")
        assert made.key.creator_id == "CN=login,O=Example"
        with refused(DENIED, "OWNER_NOT_PERMITTED"):
            await login.CreateKey(owner_id="globex", display_name="x")


@pytest.mark.parametrize(
    ("subject", "uris", "name"),
    [
        ("CN=somebody", [], "CN=somebody"),
        ("CN=somebody", ["spiffe://example.org/other"], "spiffe://example.org/other"),
        ("CN=somebody", ["spiffe://example.org/orders/more"], "spiffe://example.org/orders/more"),
        # Only a part of a listed subject, or more than it.
        ("CN=login", [], "CN=login"),
        ("CN=login,O=Example,C=DE", [], "CN=login,O=Example,C=DE"),
        ("O=Example,CN=login", [], "O=Example,CN=login"),
        # A name that contains another one.
        ("CN=login\\,O\\=Example", [], "CN=login\\,O=Example"),
        # With a SPIFFE id, the subject does not count; two SPIFFE ids are invalid.
        ("CN=login,O=Example", ["spiffe://example.org/other"], "spiffe://example.org/other"),
        ("CN=login,O=Example", [ORDERS, "spiffe://example.org/other"], ""),
        ("CN=login,O=Example", ["https://example.org/", ORDERS], ""),
    ],
)
async def test_a_certificate_that_is_not_listed(
    door: Door, subject: str, uris: Sequence[str], name: str
) -> None:
    """It opens a connection but authenticates nobody; the error contains the name to list."""
    async with door.client(subject, *uris) as client:
        with refused(UNAUTHENTICATED, "CERTIFICATE_UNKNOWN") as refusal:
            await client.VerifyKey(key_string="x")
        assert refusal.info.metadata["certificate"] == name


async def test_a_key_stands_before_the_certificate(door: Door, transport: str) -> None:
    """With both, the caller is the key. A wrong or empty key is refused even with a listed certificate."""
    async with door.client("CN=any", ORDERS) as orders:
        weak = await orders.CreateKey(owner_id="acme", display_name="x", scopes=["a"])
    async with door.client("CN=any", ORDERS, key_string=weak.key_string) as both:
        with refused(DENIED, "SCOPE_MISSING"):
            await both.GetKey(key_id=weak.key.key_id)
    async with door.client("CN=any", ORDERS, key_string="rubbish") as wrong:
        with refused(UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await wrong.GetKey(key_id=weak.key.key_id)
    for empty in ("", " "):
        async with door.channel(door.authority.issue("CN=any", uris=(ORDERS,))) as channel:
            lost = Client(channel, None, authorization=f"Bearer{empty}")
            with refused(*missing(f"Bearer{empty}", transport)):
                await lost.GetKey(key_id=weak.key.key_id)
    async with door.client("CN=nobody", key_string=door.service.admin_key) as admin:
        assert (await admin.GetKey(key_id=weak.key.key_id)).creator_id == ORDERS


async def test_who_leaves_the_list_is_nobody_at_once(door: Door) -> None:
    """Also over an open connection. A certificate that is added is accepted immediately."""
    async with door.client("CN=any", ORDERS) as orders, door.client("CN=new") as new:
        await orders.ListKeys(owner_id="acme")
        with refused(UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"):
            await new.ListKeys(owner_id="acme")
        listed = '[[caller]]\nsubject = "CN=new"\nowner_id = "acme"\nscopes = ["keys:read"]\n'
        replace(door.callers, listed.encode())
        await door.look()
        await new.ListKeys(owner_id="acme")
        with refused(UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"):
            await orders.ListKeys(owner_id="acme")


async def test_certificates_without_a_list_are_only_the_door(mutual: Secure) -> None:
    """Without AUTHSVC_CALLERS a key is still required."""
    async with mutual.channel(mutual.authority.issue("CN=login,O=Example")) as channel:
        with refused(UNAUTHENTICATED, "CREDENTIAL_MISSING"):
            await Client(channel, None).VerifyKey(key_string="x")


@asynccontextmanager
async def open_to_all(database_url: str, clock: Clock, *scopes: str) -> AsyncIterator[Service]:
    async with serving(database_url, clock, anonymous_scopes=scopes) as service:
        yield service


async def test_without_a_credential(database_url: str, clock: Clock) -> None:
    """With scopes for anonymous callers, a call without a credential has those scopes on every owner."""
    async with open_to_all(database_url, clock, "keys:verify", "keys:write", "sessions:write") as service:
        nobody = Client(service.channel, None)
        made = await make(service)
        assert (await nobody.VerifyKey(key_string=made.key_string)).owner_id == "acme"
        for owner_id in ("acme", "globex"):
            created = await nobody.CreateKey(owner_id=owner_id, display_name="x")
            assert created.key.creator_id == "anonymous"
            await nobody.CreateSession(owner_id=owner_id)
        with refused(DENIED, "SCOPE_MISSING"):
            await nobody.ListKeys(owner_id="acme")
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await nobody.CreateKey(owner_id="acme", display_name="x", scopes=["full_access"])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Bearer rubbish", "CREDENTIAL_INVALID"),
        ("", "CREDENTIAL_MISSING"),
        ("Bearer ", "CREDENTIAL_MISSING"),
        ("Basic eA==", "CREDENTIAL_SCHEME"),
    ],
)
async def test_a_wrong_credential_is_not_none(
    database_url: str, clock: Clock, header: str, reason: str, transport: str
) -> None:
    """An invalid credential is refused; its caller does not become anonymous."""
    async with open_to_all(database_url, clock, "full_access") as service:
        told = missing(header, transport) if reason == "CREDENTIAL_MISSING" else (UNAUTHENTICATED, reason)
        with refused(*told):
            await Client(service.channel, None, authorization=header).VerifyKey(key_string="x")


async def test_a_certificate_that_is_not_listed_is_not_none(
    database_url: str, clock: Clock, authority: Authority, files: Files, tmp_path: Path
) -> None:
    """With a file of callers, a certificate that is no longer in it gets no anonymous scopes."""
    (tmp_path / "callers.toml").write_text("")
    async with (
        serving(
            database_url,
            clock,
            tls_cert=files.cert,
            tls_key=files.key,
            tls_client_ca=files.client_ca,
            callers=tmp_path / "callers.toml",
            anonymous_scopes=("full_access",),
        ) as service,
        Secure(service, authority, files).channel(authority.issue("CN=x")) as channel,
    ):
        with refused(UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"):
            await Client(channel, None).VerifyKey(key_string="x")


async def used_from(service: Service, client: Any, made: Any) -> str:
    """Return the address that is stored as the last use of a client's own key."""
    await client.VerifyKey(key_string="x")
    await service.flush()
    return str((await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip)


async def test_the_address_behind_a_trusted_proxy(database_url: str, clock: Clock) -> None:  # rule 23
    """It is the address that the proxy appends; what the client sends itself is ignored."""
    async with serving(database_url, clock, trusted_proxies=(ip_network("127.0.0.0/8"),)) as service:
        made = await make(service, scopes=["keys:verify"])
        client = Client(service.channel, made.key_string, x_forwarded_for="1.1.1.1, 198.51.100.7")
        assert await used_from(service, client, made) == "198.51.100.7"
        clock.advance(seconds=1)
        client = Client(service.channel, made.key_string, x_forwarded_for="rubbish")
        assert await used_from(service, client, made) == "127.0.0.1"


async def test_the_address_behind_nobody(service: Service) -> None:  # rule 23
    """Without trusted proxies the header is ignored."""
    made = await make(service, scopes=["keys:verify"])
    client = Client(service.channel, made.key_string, x_forwarded_for="198.51.100.7")
    assert await used_from(service, client, made) == "127.0.0.1"
