"""`POST /secret-scanning`: what GitHub sends, with real signatures."""

import hashlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsvc.config.settings import ConfigError
from authsvc.model.errors import Unavailable
from authsvc.model.key_string import KeyMint
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.v1 import resources_pb2
from authsvc.web.scanning_keys import Fetch, FileKeys, RemoteKeys, keys_of, parse
from authsvc.web.secret_scanning import MAX_BYTES, MAX_RECORDS
from tests.conftest import Clock, MovedStopwatch, Service, serving

URL = "https://github.com/octocat/Hello-World/blob/main/foo/bar.txt"
KEY = generate_private_key(SECP256R1())


def listed(*keys: EllipticCurvePrivateKey, is_current: bool = True) -> bytes:
    """Return the list of these keys, as GitHub serves it, by the names k0, k1 and so on."""
    pems = [each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for each in keys]
    return json.dumps(
        {
            "public_keys": [
                {"key_identifier": f"k{number}", "key": pem.decode(), "is_current": is_current}
                for number, pem in enumerate(pems)
            ]
        }
    ).encode()


def signed(body: bytes, key: EllipticCurvePrivateKey = KEY, identifier: str = "k0") -> dict[str, str]:
    signature = b64encode(key.sign(body, ECDSA(SHA256()))).decode()
    return {"Github-Public-Key-Identifier": identifier, "Github-Public-Key-Signature": signature}


@asynccontextmanager
async def scanned(database_url: str, clock: Clock, path: Path) -> AsyncIterator[tuple[Service, Any]]:
    """Yield a service that knows the key, and a function that sends it a message."""
    file = path / "keys.json"
    file.write_bytes(listed(KEY))
    async with (
        serving(database_url, clock, web_listen="127.0.0.1:0", secret_scanning_keys=str(file)) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.app.web_port}", trust_env=False) as http,
    ):

        async def send(body: bytes | list[Any], **headers: str) -> httpx.Response:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent = {"content-type": "application/json", **signed(content), **headers}
            return await http.post("/secret-scanning", content=content, headers=sent)

        yield service, send


def answer(token: str, label: str) -> dict[str, str]:
    digest = b64encode(hashlib.sha256(token.encode()).digest()).decode()
    return {"token_hash": digest, "token_type": "authsvc_key", "label": label}


def record(token: str, url: str = URL) -> dict[str, str]:
    return {"token": token, "type": "authsvc_key", "url": url, "source": "content"}


async def test_what_was_found_is_revoked_and_labelled(
    database_url: str, clock: Clock, tmp_path: Path
) -> None:
    """Minted here is true, also when it is revoked; made up is false, without the database."""
    async with scanned(database_url, clock, tmp_path) as (service, send):
        made = [await service.admin.CreateKey(owner_id="acme", display_name="x") for _ in range(2)]
        session = await service.admin.CreateSession(owner_id="u-1")
        unknown = service.app.mint.mint("authsvc", "live").text
        forged = KeyMint(b"another tag key").mint("authsvc", "live").text
        tokens = [made[0].key_string, made[1].key_string, session.session_token, unknown, forged, "x"]
        bad: list[Any] = [None, 7, [], {}, {"token": 1}, {"token": None, "url": URL}]
        message = [*bad, record(tokens[0], ""), *map(record, tokens[1:])]
        expected = [answer(each, "true_positive") for each in tokens[:4]]
        expected += [answer(each, "false_positive") for each in tokens[4:]]
        for _ in range(2):  # The second time, all of it is revoked.
            response = await send(message)
            assert (response.status_code, response.json()) == (200, expected)
        found = [await service.admin.GetKey(key_id=each.key.key_id) for each in made]
        assert {each.revoke_cause for each in found} == {resources_pb2.REVOKE_CAUSE_LEAKED}
        assert [each.revoke_reason for each in found] == ["leaked: content", f"leaked: {URL}"]
        assert {each.revoker_id for each in found} == {"secret-scanning"}
        assert not (await service.admin.VerifySession(session_token=session.session_token)).valid
        assert (await send([])).json() == []


async def test_made_up_tokens_never_reach_the_database(
    database_url: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scanned(database_url, clock, tmp_path) as (service, send):

        def reached(*_: object, **__: object) -> None:
            raise AssertionError("the database was asked")

        for name in ("connection", "transaction", "commit"):
            monkeypatch.setattr(type(service.app.database), name, reached)
        forged = [KeyMint(b"another").mint("authsvc", "live").text for _ in range(MAX_RECORDS)]
        response = await send([record(each) for each in forged])
        assert {each["label"] for each in response.json()} == {"false_positive"}
        monkeypatch.undo()


async def test_without_a_signature_nothing_is_done(database_url: str, clock: Clock, tmp_path: Path) -> None:
    """No header, another key, another body, another curve, nonsense: an error that says what is wrong."""
    async with scanned(database_url, clock, tmp_path) as (service, send):
        made = await service.admin.CreateKey(owner_id="acme", display_name="x")
        body = json.dumps([record(made.key_string)]).encode()
        other = generate_private_key(SECP256R1())
        large = generate_private_key(SECP384R1())
        for headers, status in (
            ({"Github-Public-Key-Identifier": ""}, 400),
            ({"Github-Public-Key-Signature": ""}, 400),
            (signed(body, identifier="k1"), 401),
            (signed(body, other), 401),
            (signed(body, large), 401),
            (signed(body + b" "), 401),
            ({"Github-Public-Key-Signature": "A" * 5000}, 401),
            ({"Github-Public-Key-Signature": "not base64"}, 401),
        ):
            response = await send(body, **headers)
            assert response.status_code == status
            assert "github-public-key" in response.json()["error"]
            assert made.key_string not in response.text
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
        assert (await send(body)).status_code == 200


async def test_messages_are_bounded(database_url: str, clock: Clock, tmp_path: Path) -> None:
    async with scanned(database_url, clock, tmp_path) as (_, send):
        for body, status in (
            (b" " * (MAX_BYTES + 1), 413),
            (json.dumps([record("x")] * (MAX_RECORDS + 1)).encode(), 413),
            (b"{}", 400),
            (b"[" * 100_000, 400),
            (b"\xff", 400),
            (b"", 400),
        ):
            assert (await send(body)).status_code == status


async def test_other_methods_and_a_service_without_keys(
    database_url: str, clock: Clock, tmp_path: Path
) -> None:
    async with scanned(database_url, clock, tmp_path) as (service, _):
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.app.web_port}", trust_env=False)
        async with http:
            assert (await http.get("/secret-scanning")).status_code == 405
    async with serving(database_url, clock, web_listen="127.0.0.1:0", console="off") as service:
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.app.web_port}", trust_env=False)
        async with http:
            body = b"[]"
            response = await http.post("/secret-scanning", content=body, headers=signed(body))
            assert response.status_code in (404, 415, 501)


def test_lists_of_keys() -> None:
    """Keys that are not current are accepted as long as they are listed."""
    assert list(parse(listed(KEY, KEY))) == ["k0", "k1"]
    assert list(parse(listed(KEY, is_current=False))) == ["k0"]
    for data in (
        b"",
        b"[]",
        b"{}",
        b'{"public_keys": []}',
        b'{"public_keys": 1}',
        b'{"public_keys": [{"key_identifier": "k"}]}',
        b'{"public_keys": [{"key_identifier": "k", "key": "nonsense"}]}',
        listed(generate_private_key(SECP384R1())),
    ):
        with pytest.raises(ValueError, match=r"has|is not"):
            parse(data)


def test_settings(tmp_path: Path) -> None:
    rules = AddressRules()
    assert keys_of("", rules) is None
    (tmp_path / "keys.json").write_bytes(listed(KEY))
    assert isinstance(keys_of(str(tmp_path / "keys.json"), rules), FileKeys)
    assert isinstance(keys_of("https://api.github.com/meta/public_keys/secret_scanning", rules), RemoteKeys)
    for wrong in ("http://example.org/keys", "https://a b", str(tmp_path / "none")):
        with pytest.raises(ConfigError, match="AUTHSVC_SECRET_SCANNING_KEYS"):
            keys_of(wrong, rules)


async def test_keys_of_an_address() -> None:
    """They are kept for an hour. An unknown one is looked for once a minute; failures change nothing."""
    stopwatch, fetched = MovedStopwatch(), 0
    answers: list[bytes | Exception] = [OSError("no route"), listed(KEY), listed(KEY, KEY), b"nonsense"]

    async def fetch() -> bytes:
        nonlocal fetched
        fetched += 1
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    keys = RemoteKeys(fetch, stopwatch)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await keys.find("k0")
    assert fetched == 1
    stopwatch.advance(61)
    assert await keys.find("k0") is not None
    assert await keys.find("k1") is None
    assert fetched == 2
    stopwatch.advance(61)
    assert await keys.find("k0") is not None
    assert fetched == 2
    assert await keys.find("k1") is not None
    assert fetched == 3
    stopwatch.advance(3601)
    assert await keys.find("k1") is not None
    assert fetched == 4


async def test_addresses_of_the_network_of_the_operator_are_not_asked() -> None:
    """Unless they are named in AUTHSVC_WEBHOOK_NETWORKS, as for webhooks."""

    def resolved(*addresses: str) -> Callable[[str, int], Awaitable[list[str]]]:
        async def resolve(host: str, port: int) -> list[str]:
            return list(addresses)

        return resolve

    for addresses in (["127.0.0.1"], ["169.254.169.254"], ["192.0.2.1", "10.0.0.1"], []):
        fetch = Fetch("https://keys.example.org/", AddressRules(), resolved(*addresses))
        with pytest.raises(ValueError, match="not allowed"):
            await fetch()
