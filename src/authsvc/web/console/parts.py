"""What all pages share."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from authsvc.entrance.operation import Operation
from authsvc.web.console.oidc.client import OidcClient
from authsvc.web.console.oidc.provider import Provider
from authsvc.web.console.pages import Pages
from authsvc.web.console.texts import Texts
from authsvc.web.console.turns import Turns
from authsvc.web.rpcs import Rpcs


class SessionTimes(NamedTuple):
    """How long a session lasts that is opened by signing in to the console."""

    lifetime: timedelta = timedelta(hours=1)
    idle_timeout: timedelta = timedelta(minutes=15)


class Oidc(NamedTuple):
    """Sign-in by OpenID Connect: what the operator has set, and the provider."""

    client: OidcClient
    provider: Provider
    # How long the provider may take for what one request of a browser asks for.
    max_seconds: float = 15.0


class Parts(NamedTuple):
    """What all pages share."""

    rpcs: Rpcs
    pages: Pages
    texts: Texts
    # By which the metrics and the audit log know that somebody asks for a page.
    operation: Operation
    session_times: SessionTimes
    clock: Callable[[], datetime]
    # For checks of the audit log, which take longer than a page.
    checks: Turns
    # How long an RPC may take.
    max_seconds: float
    # None if staff sign in with keys only.
    oidc: Oidc | None = None
