"""Settings of what is served over HTTP: the RPCs as JSON, and the console."""

from typing import Literal

from pydantic import Field

from authsvc.config.address import OptionalListen
from authsvc.config.oidc_settings import OidcSettings
from authsvc.config.token_settings import TokenSettings
from authsvc.net.listen_address import ListenAddress

#: Where `authsvc dev` serves the RPCs over HTTP, or at the next free port. The proxies in deploy/ have 8080.
DEV_LISTEN = ListenAddress("127.0.0.1", 8090)


class WebSettings(OidcSettings, TokenSettings):
    """A part of `Settings`."""

    web_listen: OptionalListen = Field(
        None,
        description="address to serve the RPCs over HTTP and the console on, host:port; empty: off",
    )
    console: Literal["on", "off"] = Field("on", description="off: no console at AUTHSVC_WEB_LISTEN")
