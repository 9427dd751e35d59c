"""Settings of the command line as a client of a service."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from authsvc.config.address import ServiceAddress


class ClientSettings(BaseSettings):
    """A part of `Settings`."""

    address: ServiceAddress = Field(
        "",
        description="the service that `authsvc keys` and similar commands call; default: the one of `listen`",
    )
    key: SecretStr | None = Field(None, description="key string that these commands authenticate with")
    call_tls_ca: Path | None = Field(
        None, description="PEM file of the authority that these commands trust; it enables TLS"
    )
    call_tls_cert: Path | None = Field(None, description="PEM file of the certificate of these commands")
    call_tls_key: Path | None = Field(None, description="PEM file of the private key of that certificate")
