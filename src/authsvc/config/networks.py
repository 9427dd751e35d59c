"""Settings that are lists of networks."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from authsvc.config.comma_separated import split
from authsvc.model.address import Network, network


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    networks = []
    for text in split(value):
        try:
            networks.append(network(text))
        except ValueError as error:
            raise ValueError(
                f"{error}; use comma-separated networks like 10.1.0.0/16, fd00::/8 or 192.0.2.1"
            ) from None
    if any(found.prefixlen == 0 for found in networks):
        raise ValueError("with all addresses, any client could claim any address; name your proxies")
    return tuple(networks)


TrustedNetworks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_read)]
"""Comma-separated networks, which are not all addresses."""
