"""`POST /secret-scanning`: what a secret scanner has found, in the format of GitHub's partner programme.

Mechanism: the body is a JSON array of `{"token", "type", "url", "source"}`. It is signed by ECDSA with P-256
and SHA-256: the headers `Github-Public-Key-Identifier` and `Github-Public-Key-Signature` name the key, and
have the signature (DER, in base64). The tokens are reported as by ReportLeakedKeys. The answer says of each
whether it was minted here, by its tag, or imported (`true_positive`, also if it is revoked), or not
(`false_positive`).

Bound: `MAX_BYTES` and `MAX_RECORDS`. A message that was sent again reports the same again.

Failure: without a valid signature 4xx, and nothing is done; beyond a rate with a delay. A record that is not
understood is left out. An error that may pass is 503; what was revoked until then stays revoked.
"""

import hashlib
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.types import Receive, Scope, Send

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.keys import Leaks
from authsvc.model.caller import Caller
from authsvc.model.errors import RetryableError
from authsvc.model.leak import Leak
from authsvc.rpc.peer import address_of
from authsvc.web.rpcs import Client
from authsvc.web.scanning_keys import ScanningKeys

MAX_BYTES, MAX_RECORDS = 1024 * 1024, 1000
#: Who is named as who has revoked a key.
SCANNER = Caller("secret-scanning", "", ())
_KEY, _SIGNATURE = "github-public-key-identifier", "github-public-key-signature"
# A signature of P-256 has at most 72 bytes.
_MAX_SIGNATURE_LENGTH = 128
ClientOf = Callable[[Scope, Sequence[tuple[str, str]]], Client]


class _Refused(Exception):
    """A message that is not accepted. The text never has anything of the body."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status, self.message = http_status, message


class _Gone(Exception):
    """The client is gone."""


class _Record(NamedTuple):
    token: str
    type: str
    place: str


class SecretScanning:
    """The endpoint; an ASGI application."""

    def __init__(self, entrance: Entrance, leaks: Leaks, keys: ScanningKeys, client_of: ClientOf) -> None:
        self._entrance, self._leaks, self._keys, self._client_of = entrance, leaks, keys, client_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a message."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        client = self._client_of(scope, headers)
        address = address_of(client.peer)
        try:
            answer: object = await self._answer(scope["method"], headers, client, receive)
            status, more = 200, dict[str, str]()
        except _Gone:
            return
        except _Refused as error:
            await self._entrance.strangers.wait(address)
            status, more, answer = error.http_status, {}, {"error": error.message}
        except RetryableError as error:
            status, more = 503, {"retry-after": str(max(1, math.ceil(error.retry_after)))}
            answer = {"error": error.message}
        await _send(send, status, answer, more)

    async def _answer(
        self, method: str, headers: Sequence[tuple[str, str]], client: Client, receive: Receive
    ) -> list[dict[str, str]]:
        if method != "POST":
            raise _Refused(405, "messages are sent by POST")
        body = await _read(receive)
        await self._check(dict(headers), body)
        records = _records(body)
        gate = self._entrance.gate
        gate.enter(slow=True)
        try:
            forwarded = [value for name, value in client.metadata if name == "x-forwarded-for"]
            call = IncomingCall(address_of(client.peer), forwarded_for=forwarded)
            reporter = SCANNER._replace(client_ip=self._entrance.authentication.address(call))
            minted = [self._leaks.is_known(each.token.strip()) for each in records]
            found = await self._leaks.report(reporter, [Leak.of(each.token, each.place) for each in records])
            labels = [
                known or each.token.strip() in found for each, known in zip(records, minted, strict=True)
            ]
        finally:
            gate.leave(slow=True)
        return [_labelled(record, known) for record, known in zip(records, labels, strict=True)]

    async def _check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise _Refused unless a listed key has signed the body."""
        identifier, signature = headers.get(_KEY, ""), headers.get(_SIGNATURE, "")
        if not identifier or not signature:
            raise _Refused(400, f"the headers {_KEY} and {_SIGNATURE} are required")
        key = await self._keys.find(identifier)
        if key is None:
            raise _Refused(401, f"the key that {_KEY} names is not known")
        try:
            key.verify(b64decode(signature[:_MAX_SIGNATURE_LENGTH], validate=True), body, ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            raise _Refused(401, f"{_SIGNATURE} is not the signature of this body") from None


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Gone
        body += event.get("body", b"")
        if len(body) > MAX_BYTES:
            raise _Refused(413, f"the body has more than {MAX_BYTES} bytes")
        if not event.get("more_body", False):
            return bytes(body)


def _records(body: bytes) -> list[_Record]:
    """Return the records that are understood; raise _Refused if it is no list of them."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise _Refused(400, "the body is not a JSON array")
    if len(listed) > MAX_RECORDS:
        raise _Refused(413, f"the array has more than {MAX_RECORDS} records")
    return [
        _Record(each["token"], _text(each, "type"), _text(each, "url") or _text(each, "source"))
        for each in listed
        if isinstance(each, dict) and isinstance(each.get("token"), str)
    ]


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _labelled(record: _Record, is_known: bool) -> dict[str, str]:
    digest = hashlib.sha256(record.token.encode("utf-8", "surrogatepass")).digest()
    return {
        "token_hash": b64encode(digest).decode(),
        "token_type": record.type,
        "label": "true_positive" if is_known else "false_positive",
    }


async def _send(send: Send, status: int, answer: object, more: Mapping[str, str]) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **more,
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
