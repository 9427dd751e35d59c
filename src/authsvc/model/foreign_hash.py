"""The hashes of secrets that other systems keep, as they write them.

    bcrypt    $2a$, $2b$, $2y$ and the cost, salt and hash
    argon2id  $argon2id$v=19$m=…,t=…,p=…$salt$hash                    (PHC string format)
    scrypt    $scrypt$ln=…,r=…,p=…$salt$hash                          (passlib)
              scrypt:N:r:p$salt$hash                                  (Werkzeug)
    PBKDF2    $pbkdf2$…, $pbkdf2-sha256$…, $pbkdf2-sha512$rounds$salt$hash    (passlib)
              pbkdf2:sha256:rounds$salt$hash                          (Werkzeug)
              pbkdf2_sha256$rounds$salt$hash                          (Django)

Bound: the cost is stated by whoever imports a hash, and paid here at each proof. So each cost has a maximum,
which is above what these systems use: 128 MiB, and about a second.
"""

import binascii
import hashlib
import re
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TypeAlias

#: The maximum costs. Memory is in KiB.
MAX_BCRYPT_COST = 13
MAX_ARGON2_MEMORY, MAX_ARGON2_WORK, MAX_PARALLELISM = 128 * 1024, 512 * 1024, 8
MAX_SCRYPT_MEMORY, MAX_SCRYPT_WORK = 128 * 1024, 256 * 1024
MAX_PBKDF2_ROUNDS = 1_500_000
#: The longest text that is looked at.
MAX_LENGTH = 512
_MIN_HASH_BYTES, _MAX_BYTES = 16, 128

_NUMBER = r"([1-9][0-9]{0,8})"
_TEXT = r"([A-Za-z0-9+/.=]{1,256})"
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(rf"\$argon2id\$v=19\$m={_NUMBER},t={_NUMBER},p={_NUMBER}\${_TEXT}\${_TEXT}")
_SCRYPT = re.compile(rf"\$scrypt\$ln={_NUMBER},r={_NUMBER},p={_NUMBER}\${_TEXT}\${_TEXT}")
_SCRYPT_WERKZEUG = re.compile(
    rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\$([!-#%-~]{{1,256}})\$([0-9a-f]{{32,256}})"
)
_PBKDF2 = re.compile(rf"\$pbkdf2(|-sha256|-sha512)\${_NUMBER}\${_TEXT}\${_TEXT}")
_PBKDF2_WERKZEUG = re.compile(
    rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\$([!-#%-~]{{1,256}})\$([0-9a-f]{{32,256}})"
)
_PBKDF2_DJANGO = re.compile(rf"pbkdf2_(sha1|sha256)\${_NUMBER}\$([!-#%-~]{{1,256}})\${_TEXT}")
_KNOWN = (
    "sha256:, bcrypt ($2a$, $2b$, $2y$), $argon2id$, scrypt ($scrypt$ or scrypt:) and PBKDF2 "
    "($pbkdf2-sha256$, pbkdf2:sha256: or pbkdf2_sha256$)"
)


class UnreadableHashError(ValueError):
    """A text that is not a hash of these forms, or costs too much; the message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Bcrypt:
    """A bcrypt hash. Only the first 72 bytes of a secret count."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Argon2id:
    """An argon2id hash (RFC 9106)."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scrypt:
    """A scrypt hash (RFC 7914)."""

    n: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """A PBKDF2 hash (RFC 8018) with HMAC of `algorithm`."""

    algorithm: str
    rounds: int
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)


ForeignHash: TypeAlias = Bcrypt | Argon2id | Scrypt | Pbkdf2


def read_hash(text: str) -> ForeignHash:
    """Return the salted hash that a text states. Raises UnreadableHashError, which says what is wrong."""
    if len(text) <= MAX_LENGTH:
        for read in (_bcrypt, _argon2id, _scrypt, _pbkdf2):
            if (found := read(text)) is not None:
                return found
    raise UnreadableHashError(f"has none of the forms that can be read: {_KNOWN}")


def _bcrypt(text: str) -> Bcrypt | None:
    if (found := _BCRYPT.fullmatch(text)) is None:
        return None
    cost = int(found[1])
    if cost < 4:
        raise UnreadableHashError(f"has the bcrypt cost {cost}, which does not exist; the minimum is 4")
    _refuse_above(cost, MAX_BCRYPT_COST, "the bcrypt cost")
    return Bcrypt(text)


def _argon2id(text: str) -> Argon2id | None:
    if (found := _ARGON2.fullmatch(text)) is None:
        return None
    memory, passes, parallelism = int(found[1]), int(found[2]), int(found[3])
    _refuse_above(memory, MAX_ARGON2_MEMORY, "m")
    _refuse_above(memory * passes, MAX_ARGON2_WORK, "m times t")
    _refuse_above(parallelism, MAX_PARALLELISM, "p")
    if memory < 8 * parallelism:
        raise UnreadableHashError("has an m below 8 times p, which argon2 does not allow")
    if len(_decoded(found[4])) < 8:
        raise UnreadableHashError("has a salt of fewer than 8 bytes, which argon2 does not allow")
    _checked(_decoded(found[5]))
    return Argon2id(text)


def _scrypt(text: str) -> Scrypt | None:
    if (found := _SCRYPT.fullmatch(text)) is not None:
        exponent = int(found[1])
        _refuse_above(exponent, 20, "ln")
        n, salt, hashed = 1 << exponent, _decoded(found[4]), _decoded(found[5])
    elif (found := _SCRYPT_WERKZEUG.fullmatch(text)) is not None:
        n, salt, hashed = int(found[1]), found[4].encode(), _from_hex(found[5])
        if n < 2 or n & (n - 1):
            raise UnreadableHashError("has an N that is not a power of two")
    else:
        return None
    r, p = int(found[2]), int(found[3])
    memory = -(-max(n, p) * r // 8)  # in KiB: N blocks of 128 r bytes, and p before them
    _refuse_above(memory, MAX_SCRYPT_MEMORY, "the memory of scrypt in KiB (N or p times r, divided by 8)")
    _refuse_above(memory * p, MAX_SCRYPT_WORK, "that memory times p")
    return Scrypt(n, r, p, salt, _checked(hashed))


def _pbkdf2(text: str) -> Pbkdf2 | None:
    if (found := _PBKDF2.fullmatch(text)) is not None:
        algorithm, salt, hashed = found[1].lstrip("-") or "sha1", _decoded(found[3]), _decoded(found[4])
    elif (found := _PBKDF2_WERKZEUG.fullmatch(text)) is not None:
        algorithm, salt, hashed = found[1], found[3].encode(), _from_hex(found[4])
    elif (found := _PBKDF2_DJANGO.fullmatch(text)) is not None:
        algorithm, salt, hashed = found[1], found[3].encode(), _decoded(found[4])
    else:
        return None
    rounds = int(found[2])
    # Each block of the hash takes all rounds (RFC 8018, 5.2).
    blocks = -(-len(_checked(hashed)) // hashlib.new(algorithm).digest_size)
    _refuse_above(rounds * blocks, MAX_PBKDF2_ROUNDS, "the number of rounds")
    return Pbkdf2(algorithm, rounds, salt, hashed)


def _refuse_above(value: int, most: int, what: str) -> None:
    if value > most:
        raise UnreadableHashError(
            f"costs too much: {what} is {value}, and the maximum is {most}. Issue a new key instead"
        )


def _checked(hashed: bytes) -> bytes:
    if not _MIN_HASH_BYTES <= len(hashed) <= _MAX_BYTES:
        raise UnreadableHashError(
            f"has a hash of {len(hashed)} bytes; it may have {_MIN_HASH_BYTES} to {_MAX_BYTES}"
        )
    return hashed


def _decoded(text: str) -> bytes:
    """Return what base64 without padding encodes. passlib writes `.` for `+`."""
    text = text.rstrip("=").replace(".", "+")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise UnreadableHashError("has a salt or a hash that is not base64") from None


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UnreadableHashError("has a hash with an odd number of hexadecimal digits") from None
