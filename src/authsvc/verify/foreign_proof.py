"""The proof of a foreign string by the salted hash that another system has kept.

All of these release the GIL while they compute, and run in the threads of `Hasher`.
"""

import hashlib
from hmac import compare_digest

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from authsvc.model.foreign_hash import Argon2id, Bcrypt, Pbkdf2, Scrypt, read_hash

# The part of a secret that bcrypt uses.
_BCRYPT_BYTES = 72
_KIB = 1024


def is_proved(secret: str, stored_hash: str) -> bool:
    """Return whether a hash is that of this secret.

    Raises UnreadableHashError, which is a ValueError, for a hash that cannot be read.
    """
    data = secret.encode("utf-8", "surrogatepass")
    match read_hash(stored_hash):
        case Bcrypt(text):
            # As those who made these hashes do, also where their library did it silently.
            return bcrypt.checkpw(data[:_BCRYPT_BYTES], text.encode())
        case Argon2id(text):
            try:
                return PasswordHasher().verify(text, data)
            except VerifyMismatchError:
                return False
        case Scrypt(n, r, p, salt, hashed):
            memory = 128 * n * r + 128 * r * p + 64 * _KIB
            made = hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=len(hashed))
            return compare_digest(made, hashed)
        case Pbkdf2(algorithm, rounds, salt, hashed):
            made = hashlib.pbkdf2_hmac(algorithm, data, salt, rounds, len(hashed))
            return compare_digest(made, hashed)
