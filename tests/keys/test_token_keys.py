"""The file of the keys that sign tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from joserfc.jwk import OKPKey

from authsvc.config.settings import ConfigError
from authsvc.keys.token_keys import MAX_LENGTH, new_token_key, reloaded_token_keys


def pem(key: Any, password: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(serialization.Encoding.PEM, form, encryption).decode())


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


ONE, TWO = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
JWK = {**OKPKey.import_key(pem(ONE)).as_dict(private=True), "kid": "mine", "alg": "EdDSA"}
OTHER_JWK = OKPKey.import_key(pem(TWO)).as_dict(private=True)


@pytest.mark.parametrize(
    "content",
    [
        pem(ONE),
        f"\ufeffa comment\n{pem(ONE)}\n",
        pem(ONE).replace("\n", "\r\n"),
        json.dumps(JWK),
        json.dumps([JWK]),
        json.dumps({"keys": [JWK]}),
    ],
    ids=["PEM", "PEM and a comment", "PEM of Windows", "JWK", "list", "JWK Set"],
)
def test_a_key(tmp_path: Path, content: str) -> None:
    """PEM and JWK are read; only the public part is published, under its thumbprint (RFC 7638)."""
    (tmp_path / "keys").write_text(content)
    keys = reloaded_token_keys(tmp_path / "keys").value
    [published] = json.loads(keys.published)["keys"]
    expected = OKPKey.import_key(public_pem(ONE))
    assert published == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": expected.as_dict(private=False)["x"],
        "kid": expected.thumbprint(),
        "use": "sig",
        "alg": "EdDSA",
    }
    assert keys.payload(keys.sign(b"{}")) == b"{}"


def test_several_keys(tmp_path: Path) -> None:
    """All are published, in their order, and recognize each other's tokens; the first signs."""
    (tmp_path / "keys").write_text(pem(ONE) + pem(TWO))
    (tmp_path / "two").write_text(json.dumps([OTHER_JWK]))
    both, second = (reloaded_token_keys(tmp_path / name).value for name in ("keys", "two"))
    ids = [key["kid"] for key in json.loads(both.published)["keys"]]
    assert ids == [OKPKey.import_key(pem(key)).thumbprint() for key in (ONE, TWO)]
    assert both.payload(second.sign(b"{}")) == b"{}"
    assert second.payload(both.sign(b"{}")) is None
    assert both.payload(both.sign(b"x" * MAX_LENGTH)) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has 0 keys"),
        (b"hello", "has 0 keys"),
        (b"\xff\xfe", "is neither PEM nor a JSON Web Key"),
        (b"{", "is neither PEM nor a JSON Web Key"),
        (b'{"keys": 1}', "is neither PEM nor a JSON Web Key"),
        (b'{"keys": []}', "has 0 keys"),
        (b"[1]", "key 1 of"),
        (b"[[]]", "key 1 of"),
        (json.dumps({**JWK, "x": OTHER_JWK["x"]}).encode(), "key 1 of"),
        (json.dumps({name: JWK[name] for name in ("kty", "crv", "x")}).encode(), "key 1 of"),
        (json.dumps({**JWK, "d": "AAAA"}).encode(), "key 1 of"),
        (public_pem(ONE).encode(), "key 1 of"),
        (pem(ONE, b"secret").encode(), "key 1 of"),
        (pem(ed448.Ed448PrivateKey.generate()).encode(), "key 1 of"),
        (pem(ec.generate_private_key(ec.SECP256R1())).encode(), "key 1 of"),
        ((pem(ONE) + pem(TWO)[:60] + "\n-----END PRIVATE KEY-----").encode(), "key 2 of"),
        ((pem(ONE) + pem(TWO) + pem(ONE)).encode(), "keys 1 and 3 of"),
        ("".join(new_token_key() for _ in range(17)).encode(), "has 17 keys"),
    ],
    ids=range(18),  # keys are random, and processes have to agree on the names of tests
)
def test_what_is_no_file_of_keys(tmp_path: Path, content: bytes, told: str) -> None:
    """The message names the setting, the file and the key, and shows nothing of it."""
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        reloaded_token_keys(tmp_path / "keys")
    message = str(refused.value)
    assert message.startswith("AUTHSVC_TOKEN_KEYS_FILE: ")
    assert told in message
    assert str(JWK["d"]) not in message
    assert pem(ONE).splitlines()[1] not in message


@pytest.mark.parametrize("given", [pem(ONE), json.dumps(JWK)], ids=["PEM", "JWK"])
def test_a_key_instead_of_a_path(given: str) -> None:
    with pytest.raises(ConfigError) as refused:
        reloaded_token_keys(Path(given))
    assert "is a key; write it into a file" in str(refused.value)
    assert given not in str(refused.value)
