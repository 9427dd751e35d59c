"""Settings of the short-lived tokens that are derived from keys and sessions."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from authsvc.config.oidc_settings import check_issuer


class TokenSettings(BaseSettings):
    """A part of `Settings`."""

    token_keys_file: Path | None = Field(
        None,
        description="file of the Ed25519 private keys that sign tokens, PEM or JWK, the current one first; "
        "empty: no tokens",
    )
    token_issuer: Annotated[str, AfterValidator(check_issuer)] = Field(
        "", description="URL that tokens name as their issuer, where verifiers find the public keys"
    )
