"""The proof at rest of a session's secret.

A session's secret is 256 random bits of ours and lives minutes to months, so a plain
SHA-256 (FIPS 180-4) is as hard to turn around as the secret is to guess. ADR 10 says
why keys have argon2id all the same.
"""

from hashlib import sha256


def session_digest(secret: str) -> str:
    """Return what to keep of a session's secret."""
    return f"sha256:{sha256(secret.encode()).hexdigest()}"
