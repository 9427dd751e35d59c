"""Hashes as other systems write them; the proofs are in tests/verify/test_foreign_proof.py."""

import pytest

from authsvc.model.errors import InvalidArgument
from authsvc.model.foreign_hash import Argon2id, Bcrypt, Pbkdf2, Scrypt, UnreadableHashError, read_hash
from authsvc.model.foreign_secret import ForeignSecret

B64 = "A" * 43
SALT = "c2FsdHNhbHQ"
DIGITS = "0" * 64


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("$2a$04$" + "a" * 53, Bcrypt),
        ("$2b$13$" + "a" * 53, Bcrypt),
        ("$2y$12$" + "./" * 26 + "x", Bcrypt),
        (f"$argon2id$v=19$m=65536,t=3,p=4${SALT}${B64}", Argon2id),
        (f"$argon2id$v=19$m=131072,t=4,p=8${SALT}${B64}", Argon2id),
        (f"$scrypt$ln=17,r=8,p=1${SALT}${B64}", Scrypt),
        (f"scrypt:32768:8:1$salt${DIGITS}", Scrypt),
        (f"$pbkdf2${'1000'}${SALT}${B64}", Pbkdf2),
        (f"$pbkdf2-sha256$29000${SALT}${B64}", Pbkdf2),
        (f"$pbkdf2-sha512$29000${SALT}${B64}", Pbkdf2),
        (f"pbkdf2:sha256:1000000$salt${DIGITS}", Pbkdf2),
        (f"pbkdf2_sha256$1500000$salt${B64}=", Pbkdf2),
    ],
)
def test_what_can_be_read(text: str, kind: type) -> None:
    assert isinstance(read_hash(text), kind)
    assert text not in repr(read_hash(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("$2b$14$" + "a" * 53, "the bcrypt cost is 14, and the maximum is 13"),
        ("$2b$99$" + "a" * 53, "the bcrypt cost is 99"),
        ("$2b$03$" + "a" * 53, "does not exist"),
        (f"$argon2id$v=19$m=4194304,t=1,p=1${SALT}${B64}", "m is 4194304, and the maximum is 131072"),
        (f"$argon2id$v=19$m=131072,t=5,p=1${SALT}${B64}", "m times t"),
        (f"$argon2id$v=19$m=8,t=999999999,p=1${SALT}${B64}", "m times t"),
        (f"$argon2id$v=19$m=65536,t=1,p=9${SALT}${B64}", "p is 9"),
        (f"$argon2id$v=19$m=8,t=1,p=8${SALT}${B64}", "an m below 8 times p"),
        (f"$argon2id$v=19$m=65536,t=1,p=1$c2Fs${B64}", "a salt of fewer than 8 bytes"),
        (f"$scrypt$ln=18,r=8,p=1${SALT}${B64}", "the memory of scrypt"),
        (f"$scrypt$ln=999,r=8,p=1${SALT}${B64}", "ln is 999"),
        (f"$scrypt$ln=17,r=8,p=3${SALT}${B64}", "that memory times p"),
        (f"scrypt:999999999:8:1$salt${DIGITS}", "not a power of two"),
        (f"scrypt:16777216:8:1$salt${DIGITS}", "the memory of scrypt"),
        (f"$pbkdf2-sha256$1500001${SALT}${B64}", "the number of rounds is 1500001"),
        (f"pbkdf2_sha256$999999999$salt${B64}", "the number of rounds"),
        (f"$pbkdf2-sha256$1000${SALT}$AAAA", "a hash of 3 bytes; it may have 16 to 128"),
        (f"$pbkdf2-sha256$1000${SALT}$AAAAA", "not base64"),
        (f"pbkdf2:sha256:1000$salt${DIGITS}0", "an odd number"),
        (f"$argon2i$v=19$m=65536,t=3,p=4${SALT}${B64}", "none of the forms"),
        (f"$argon2id$v=16$m=65536,t=3,p=4${SALT}${B64}", "none of the forms"),
        ("$2x$04$" + "a" * 53, "none of the forms"),
        (f"$2b$04${'a' * 53}\n", "none of the forms"),
        (f"$pbkdf2-sha256$0${SALT}${B64}", "none of the forms"),
        (f"$pbkdf2-sha256$٣${SALT}${B64}", "none of the forms"),
        (f"pbkdf2:md5:1000$salt${DIGITS}", "none of the forms"),
        ("$1$salt$hash", "none of the forms"),
        ("hunter2", "none of the forms"),
        ("", "none of the forms"),
        ("$2b$04$" + "a" * 100_000, "none of the forms"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    """The message names the limit, and repeats neither hash nor salt."""
    with pytest.raises(UnreadableHashError, match=says.replace("$", r"\$")) as refusal:
        read_hash(text)
    assert B64 not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_digest_is_in_lower_case() -> None:
    secret = ForeignSecret.of_digest("key_hash", "SHA256:" + "AB" * 32)
    assert secret.look_up == secret.stored_hash == "sha256:" + "ab" * 32
    assert "ab" * 32 not in repr(ForeignSecret.of_hash("$2b$04$" + "ab" * 26 + "a", "abcdef"))


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "0" * 64])
def test_what_is_no_digest(digest: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        ForeignSecret.of_digest("key_hash", digest)
    assert [each.field for each in refusal.value.violations] == ["key_hash"]
