"""Settings that are lists of networks."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from authsvc.config.comma_separated import split
from authsvc.model.address import Network, network


def _read(value: object, all_of_them: str) -> object:
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
        raise ValueError(all_of_them)
    return tuple(networks)


def _read_trusted(value: object) -> object:
    return _read(value, "with all addresses, any client could claim any address; name your proxies")


def _read_callable(value: object) -> object:
    return _read(
        value,
        "with all addresses, tenants could call all of your network; name the networks of your receivers",
    )


TrustedNetworks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_read_trusted)]
"""Comma-separated networks, which are not all addresses."""
CallableNetworks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_read_callable)]
"""The same, of what may be called."""
