"""Calls a webhook once.

Mechanism: the name is resolved once, all its addresses are checked, and one of these is connected to. TLS
verifies the certificate for the name. Of the response, the status and Retry-After are read. Then the
connection is closed. Redirects are not followed, and proxies of the environment are not used.

Bound: 15 s for everything together, and `MAX_RESPONSE_BYTES` of the response.

Failure: an `Attempt` with an error. Tenants see these errors, so they have no part of a response, and no
address that a name resolved to.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime

import httpcore

from authsvc.model.retry_schedule import retry_after_of
from authsvc.model.webhook import Attempt, Outcome, Webhook
from authsvc.net.checked_connection import NETWORK_ERRORS, USER_AGENT, TooLargeError, exchange
from authsvc.net.resolver import Resolve, Resolver
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.signature import signature_headers
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.notifications.webhooks.target import Target, read_target
from authsvc.telemetry.current_call import outgoing_headers

#: For one call: look-up, connection, TLS, request and response head.
SECONDS = 15.0
# What OpenSSL says of a certificate (x509_vfy.h): expired, for another name, for another address.
_EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 10, 62, 64
_GONE = (
    "the service no longer has the key that this webhook's secret is made from; ask its operator to put it "
    "back into AUTHSVC_WEBHOOK_KEYS, or rotate the secret"
)


class _Failed(Exception):
    """A call has failed; the message is shown to tenants."""

    def __init__(self, error: str, outcome: Outcome = Outcome.UNREACHABLE) -> None:
        super().__init__(error)
        self.outcome = outcome


class WebhookCaller:
    """Signs messages, and sends each to one webhook."""

    def __init__(
        self,
        keys: SigningKeys,
        addresses: AddressRules,
        clock: Callable[[], datetime],
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """Take what resolves names, and the context of TLS, if they are not those of the system."""
        self._keys = keys
        self._addresses = addresses
        self._clock = clock
        # With a search domain, vault.prod is a name of the operator's network.
        self._resolve = resolve or Resolver(is_absolute=not addresses.networks)
        self._tls = tls
        self._seconds = seconds

    async def call(self, webhook: Webhook, message_id: str, body: bytes) -> Attempt:
        """Send a message once; return how that went, whatever the receiver and the network do."""
        now = self._clock()
        secrets = self._secrets(webhook, now)
        if not secrets:
            return Attempt(error=_GONE, outcome=Outcome.UNSIGNED)
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **dict(outgoing_headers()),
            **signature_headers(message_id, now, body, secrets),
        }
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(webhook.url, headers, body)
        except _Failed as error:
            return Attempt(error=str(error), outcome=error.outcome)
        except TimeoutError:
            return Attempt(error=f"no answer within {self._seconds:g} s", outcome=Outcome.UNREACHABLE)

    def _tls_context(self) -> ssl.SSLContext:
        """Return the context of TLS. Loading the authorities of the system takes time, so it is done once."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _secrets(self, webhook: Webhook, now: datetime) -> list[bytes]:
        """Return the secrets that sign. One whose key is gone is left out, since the others may be enough."""
        secrets = []
        for each in webhook.signing(now):
            try:
                secrets.append(self._keys.secret(webhook.webhook_id, each))
            except LookupError:
                continue
        return secrets

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        try:
            target = read_target(url)
        except ValueError as error:
            raise _Failed(f"the URL {error}", Outcome.NOT_ALLOWED) from None
        addresses = await self._checked(target)
        scheme = b"http" if target.is_plain else b"https"
        request = httpcore.Request(
            b"POST",
            httpcore.URL(scheme=scheme, host=target.host, port=target.port, target=target.path),
            headers=[
                ("host", target.authority),
                ("connection", "close"),
                ("content-length", str(len(body))),
                *headers.items(),
            ],
            content=body,
        )
        try:
            async with exchange(request, addresses, self._tls_context()) as response:
                return self._attempt(response)
        except TooLargeError:
            raise _Failed("the header of the answer is too large") from None
        except NETWORK_ERRORS as error:
            raise _Failed(_phrase(error)) from None

    async def _checked(self, target: Target) -> list[str]:
        """Return the addresses of the target, all of which may be called."""
        if target.address is not None:
            found, what = [target.host], "the address is not allowed"
        else:
            what = "an address of the name is not allowed"
            try:
                found = await self._resolve(target.host, target.port)
            except OSError:
                found = []
            if not found:
                raise _Failed("the name does not resolve")
        if not all(self._addresses.allows(each, is_plain=False) for each in found):
            raise _Failed(what, Outcome.NOT_ALLOWED)
        if not all(self._addresses.allows(each, is_plain=target.is_plain) for each in found):
            raise _Failed("http:// is not allowed there; use https://", Outcome.NOT_ALLOWED)
        return found

    def _attempt(self, response: httpcore.Response) -> Attempt:
        status = response.status
        if 200 <= status < 300:
            return Attempt(status)
        after = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
        return Attempt(
            status,
            f"answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else ""),
            retry_after_of(after.decode("latin-1"), self._clock()),
            Outcome.ANSWERED,
        )


def _phrase(error: Exception) -> str:
    """Return what is shown of an error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
                return "the certificate is not valid for the name"
            return (
                "the certificate has expired"
                if cause.verify_code == _EXPIRED
                else "the certificate is not from an authority that is trusted"
            )
        if isinstance(cause, ssl.SSLError):
            return "TLS 1.2 or later could not be negotiated"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return "no connection could be made"
    if isinstance(error, httpcore.ProtocolError) and "disconnected" not in str(error):
        return "the answer is not HTTP/1.1"
    return "the connection was closed before an answer"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
