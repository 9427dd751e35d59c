"""Envoy's external authorization over gRPC, `envoy.service.auth.v3.Authorization/Check`.

In Envoy's configuration, a route lists the scopes that it requires in `context_extensions`, under the key
`authsvc.required_scopes`, and those of which it requires one under `authsvc.any_of_scopes`. To Envoy an
answer without a status is a pass, so answers are built in only two places.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from authsvc.gateway.access import FAULT, Access, Allowed, GatewayRequest
from authsvc.gateway.denied import Denied, grpc_media_type
from authsvc.gateway.identities import OVERWRITE, Identities
from authsvc.gateway.required import required_scopes
from authsvc.gateway.v1.ext_authz_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    OkHttpResponse,
    Status,
)
from authsvc.model.address import Proxies
from authsvc.model.caller import Caller
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.memo import remembered
from authsvc.telemetry.wording import cut

_log = logging.getLogger(__name__)

SERVICE, METHOD = "envoy.service.auth.v3.Authorization", "Check"
_PREFIX = "authsvc."
_REQUIRED, _ANY_OF = "authsvc.required_scopes", "authsvc.any_of_scopes"

# Characters of an invalid setting that the log shows.
_MAX_SHOWN_LENGTH = 200
# A status with the code OK of google.rpc.Code.
_PASS = CheckResponse(status=Status(code=0)).SerializeToString()
# The tag of the field `ok_response` of CheckResponse.
_OK_RESPONSE = CheckResponse(ok_response=OkHttpResponse()).SerializeToString()[:1]
# Bytes of a CheckRequest. Envoy accepts 60 KiB of headers by default. A megabyte of short headers would
# block the event loop for some 60 ms.
MAX_BYTES = 128 * 1024


class ExtAuthz:
    """Answers Check calls of Envoy."""

    def __init__(self, access: Access, proxies: Proxies) -> None:
        """Take what decides, and the trusted proxies before Envoy."""
        self._access = access
        self._proxies = proxies
        self._identities = Identities()

    async def check(self, caller: Caller, data: bytes) -> bytes:
        """Answer a serialized CheckRequest; raise InvalidArgument if it is invalid or over 128 KiB."""
        asked, headers = self._asked(data)
        if isinstance(asked, str):
            _log.error("Envoy's context_extensions: %s", asked)
            return self._answer(FAULT, headers)
        return self._answer(await self._access.decide(caller, asked), headers)

    def recall(self, caller: Caller, data: bytes) -> bytes | None:
        """Answer as `check`, from memory alone; None when `check` has to look further."""
        asked, headers = self._asked(data)
        # What is wrong with the settings is said by `check`, where the log names the call.
        answer = None if isinstance(asked, str) else self._access.recall(caller, asked)
        return None if answer is None else self._answer(answer, headers)

    def _answer(self, answer: Allowed | Denied, headers: Mapping[str, str]) -> bytes:
        return _denied(answer, headers) if isinstance(answer, Denied) else self._allowed(answer)

    def _allowed(self, answer: Allowed) -> bytes:
        """Return the serialized answer, joined from parts.

        Building the messages each time would take as long as the rest of the decision.
        """
        headers, metadata = self._identities.parts(answer.credential)
        for name in answer.other_removed_headers:
            headers += _removed(name)
        if answer.other_set_headers:
            headers += OkHttpResponse(headers=_headers(answer.other_set_headers)).SerializeToString()
        if answer.limit_headers:
            told = OkHttpResponse(response_headers_to_add=_headers(answer.limit_headers))
            headers += told.SerializeToString()
        return b"".join((_PASS, _OK_RESPONSE, _varint(len(headers)), headers, metadata))

    def _asked(self, data: bytes) -> tuple[GatewayRequest | str, Mapping[str, str]]:
        """Return what is asked, or what is wrong with the settings of the route; and the headers."""
        attributes = _parsed(data).attributes
        http = attributes.request.http
        headers = http.headers
        scopes = _required(attributes.context_extensions)
        if isinstance(scopes, str):
            return scopes, headers
        # The peer of Envoy, whatever Envoy makes of x-forwarded-for.
        address = attributes.source.address.socket_address.address
        forwarded = headers.get("x-forwarded-for")
        address = self._proxies.client(address, [forwarded] if forwarded else ())
        # As bytes in ISO-8859-1; Envoy writes them as UTF-8.
        target = http.path if http.path.isascii() else http.path.encode().decode("latin-1")
        required, any_of = scopes
        return GatewayRequest(http.method, target, headers, required, address, any_of_scopes=any_of), headers


def verdict_of(data: bytes) -> str:
    """Return what a serialized answer says: ALLOWED, or the status that the client gets."""
    answer = CheckResponse.FromString(data)
    return str(answer.denied_response.status.code) if answer.status.code else "ALLOWED"


def _parsed(data: bytes) -> CheckRequest:
    if len(data) > MAX_BYTES:
        problem = (
            f"has {len(data)} bytes; at most {MAX_BYTES} are accepted. Remove with_request_body from "
            "Envoy's configuration, and limit the headers by max_request_headers_kb"
        )
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    try:
        return CheckRequest.FromString(data)
    except DecodeError as error:
        problem = "is not a valid envoy.service.auth.v3.CheckRequest"
        raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error


def _required(extensions: Mapping[str, str]) -> tuple[Sequence[str], Sequence[str]] | str:
    """Return the scopes in the settings of a route: all that are required, and those of which one is.

    Of invalid settings, what is wrong with them.
    """
    if not extensions:
        return (), ()
    listed: dict[str, Sequence[str]] = {_REQUIRED: (), _ANY_OF: ()}
    for key, text in extensions.items():
        if not key.startswith(_PREFIX):
            continue
        scopes = required_scopes(text) if key in listed else None
        # One of none would be no requirement.
        if scopes is None or (key == _ANY_OF and not scopes):
            problem = (
                f"{cut(text, _MAX_SHOWN_LENGTH)!r} are not valid scopes"
                if key in listed
                else f"{cut(key, _MAX_SHOWN_LENGTH)} is not known"
            )
            return f"{problem}; write {_REQUIRED}: orders:read orders:write, or {_ANY_OF} for one of them"
        listed[key] = scopes
    return listed[_REQUIRED], listed[_ANY_OF]


@remembered(max_entries=256, max_length=64)
def _removed(name: str) -> bytes:
    """Return a part of OkHttpResponse that removes a header."""
    return OkHttpResponse(headers_to_remove=[name]).SerializeToString()


def _varint(number: int) -> bytes:
    """Return a length in the encoding of protobuf."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _denied(answer: Denied, asked: Mapping[str, str]) -> bytes:
    if media_type := grpc_media_type(asked.get("content-type", "")):
        # Envoy removes the content type of a gRPC-Web answer without a body, and some clients then read a
        # 200 as UNKNOWN. All of them read 401, 403 and 503 as the right code.
        status = answer.status if "-web" in media_type else 200
        headers, body = answer.grpc_headers(media_type), ""
    else:
        status, headers, body = answer.status, answer.headers(), answer.body()
    return CheckResponse(
        status=Status(code=answer.code),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=status), headers=_headers(headers), body=body
        ),
    ).SerializeToString()


def _headers(headers: Iterable[tuple[str, str]]) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=OVERWRITE)
        for name, value in headers
    ]
