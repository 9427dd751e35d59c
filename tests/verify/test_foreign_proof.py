"""Proofs by the hashes of other systems, against values that their own code has made."""

import asyncio
import base64
import hashlib

import bcrypt
import pytest
from argon2 import PasswordHasher

from authsvc.model.errors import Overloaded, Unavailable
from authsvc.verify.foreign_proof import is_proved
from authsvc.verify.hasher import IMPORTED, Hasher
from tests.verify.parts import Job

SECRET = "tok_correct-horse-battery-staple"
SALT = b"saltsalt"


def unpadded(data: bytes, plus: str = "+") -> str:
    return base64.b64encode(data).decode().rstrip("=").replace("+", plus)


def made() -> dict[str, str]:
    """Return a hash of SECRET in each form."""
    secret = SECRET.encode()
    pbkdf2 = hashlib.pbkdf2_hmac("sha256", secret, SALT, 1000)
    pbkdf2_1 = hashlib.pbkdf2_hmac("sha1", secret, SALT, 1000)
    pbkdf2_512 = hashlib.pbkdf2_hmac("sha512", secret, SALT, 1000)
    scrypt = hashlib.scrypt(secret, salt=SALT, n=1024, r=8, p=2, dklen=64)
    return {
        "bcrypt": bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode(),
        "bcrypt of PHP": bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$"),
        "argon2id": PasswordHasher(1, 64, 2, hash_len=16).hash(SECRET),
        "scrypt of passlib": f"$scrypt$ln=10,r=8,p=2${unpadded(SALT)}${unpadded(scrypt)}",
        "scrypt of Werkzeug": f"scrypt:1024:8:2${SALT.decode()}${scrypt.hex()}",
        "PBKDF2 of passlib, SHA-1": f"$pbkdf2$1000${unpadded(SALT, '.')}${unpadded(pbkdf2_1, '.')}",
        "PBKDF2 of passlib": f"$pbkdf2-sha256$1000${unpadded(SALT, '.')}${unpadded(pbkdf2, '.')}",
        "passlib, SHA-512": f"$pbkdf2-sha512$1000${unpadded(SALT, '.')}${unpadded(pbkdf2_512, '.')}",
        "PBKDF2 of Werkzeug": f"pbkdf2:sha256:1000${SALT.decode()}${pbkdf2.hex()}",
        "PBKDF2 of Django": f"pbkdf2_sha256$1000${SALT.decode()}${base64.b64encode(pbkdf2).decode()}",
    }


@pytest.mark.parametrize("form", list(made()))
def test_the_right_secret_is_proved_and_no_other(form: str) -> None:
    stored = made()[form]
    assert is_proved(SECRET, stored)
    assert not is_proved(SECRET + "x", stored)
    assert not is_proved("", stored)


# Of the test vectors of crypt_blowfish, and of the documents of passlib.
@pytest.mark.parametrize(
    ("secret", "stored"),
    [
        ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
        (
            "password",
            "$pbkdf2-sha256$6400$0ZrzXitFSGltTQnBWOsdAw$Y11AchqV4b0sUisdZd0Xr97KWoymNE0LNNrnEgY4H9M",
        ),
    ],
)
def test_published_values(secret: str, stored: str) -> None:
    assert is_proved(secret, stored)
    assert not is_proved(secret + "x", stored)


def test_bcrypt_uses_the_first_72_bytes_only() -> None:
    """As those who made the hashes do. Once it is used, argon2id proves the whole string."""
    secret = "s" * 72
    stored = bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()
    assert is_proved(secret + "anything", stored)
    assert not is_proved("s" * 71, stored)


async def test_guesses_leave_room_for_others() -> None:
    """Proofs of one look-up have four places, all foreign strings half of the queue."""
    hasher = Hasher(threads=2, queue_limit=16)
    stored = made()["bcrypt"]
    try:
        with Job() as job:
            blocked = asyncio.ensure_future(hasher.run(job))
            await job.started()
            guesses = [
                asyncio.ensure_future(hasher.verify_foreign(f"look-up {n % 2}", "wrong", stored))
                for n in range(8)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="too many secrets"):
                await hasher.verify_foreign("look-up 0", "wrong", stored)
            with pytest.raises(Overloaded, match="too many secrets"):
                await hasher.verify_foreign("look-up 2", "wrong", stored)
            minted = await hasher.hash("secret", IMPORTED)  # other work goes on
            assert await asyncio.gather(*guesses) == [False] * 8
        await blocked
        assert await hasher.verify_foreign("look-up 0", SECRET, stored)
        assert hasher.is_outdated(stored, IMPORTED)
        assert not hasher.is_outdated(minted, IMPORTED)
    finally:
        hasher.close()


async def test_a_hash_that_cannot_be_read_is_no_wrong_secret() -> None:
    hasher = Hasher(threads=1, queue_limit=4)
    try:
        for damaged in ("", "x", "$2b$04$" + "a" * 52, "$2b$31$" + "a" * 53):
            with pytest.raises(Unavailable) as refusal:
                await hasher.verify_foreign("look-up", SECRET, damaged)
            assert refusal.value.reason == "PROOF_UNREADABLE"
        assert not hasher._guesses
    finally:
        hasher.close()
