"""Settings that are addresses: where to listen, and which service to call."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_settings import NoDecode

from authsvc.net.listen_address import ListenAddress


def _parse(value: object) -> object:
    return ListenAddress.parse(value) if isinstance(value, str) else value


def _parse_if_set(value: object) -> object:
    return None if value == "" else _parse(value)


def _check_service(value: str) -> str:
    if value:
        try:
            ListenAddress.parse(value.removeprefix("https://"))
        except ValueError:
            raise ValueError(
                "use host:port, for instance 127.0.0.1:50051, or https://host:port for TLS"
            ) from None
    return value


def check_free(value: ListenAddress | None, info: ValidationInfo) -> ListenAddress | None:
    """Return an address at which no server listens whose setting comes before; raise ValueError."""
    for name in ("web_listen", "listen", "admin_listen"):
        other = info.data.get(name)
        if value and other and name != info.field_name and value.overlaps(other):
            raise ValueError(f"{value} has the port of AUTHSVC_{name.upper()}, {other}; use another port")
    return value


Listen = Annotated[ListenAddress, NoDecode, BeforeValidator(_parse)]
OptionalListen = Annotated[ListenAddress | None, NoDecode, BeforeValidator(_parse_if_set)]
ServiceAddress = Annotated[str, AfterValidator(_check_service)]
"""The service that the command line calls: host:port, https://host:port for TLS, or empty."""
