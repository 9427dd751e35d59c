"""Envoy's external authorization over gRPC, `envoy.service.auth.v3.Authorization/Check`.

A route says in Envoy's configuration which scopes it needs, as `context_extensions` with the key
`authsvc.required_scopes`. An answer without a status is a pass to Envoy, so each one is made in one place.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from authsvc.errors import FieldViolation, InvalidArgument
from authsvc.gateway.access import FAULT, Access, Allowed, Asked, required_scopes
from authsvc.gateway.denied import Denied
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
from authsvc.model.caller import Caller
from authsvc.model.credential import Credential, CredentialKind

_log = logging.getLogger(__name__)

SERVICE, METHOD = "envoy.service.auth.v3.Authorization", "Check"
_PREFIX = "authsvc."
_REQUIRED = "authsvc.required_scopes"

_OVERWRITE = 2
# Of google.rpc.Code.
_OK = Status(code=0)
_CODES = {401: Status(code=16), 403: Status(code=7), 503: Status(code=14), 500: Status(code=13)}
_IDS = {CredentialKind.KEY: "key_id", CredentialKind.SESSION: "session_id"}


class ExtAuthz:
    """Answers Envoy."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def check(self, caller: Caller, data: bytes) -> CheckResponse:
        """Answer a serialized CheckRequest; raise InvalidArgument for what is none."""
        try:
            attributes = CheckRequest.FromString(data).attributes
        except DecodeError as error:
            problem = "is no envoy.service.auth.v3.CheckRequest"
            raise InvalidArgument(FieldViolation("", "request.decodable", problem)) from error
        http = attributes.request.http
        scopes = _required(attributes.context_extensions)
        if scopes is None:
            return _denied(FAULT)
        address = attributes.source.address.socket_address.address
        asked = Asked(http.method, http.path, http.headers, scopes, address)
        answer = await self._access.decide(caller, asked)
        return _denied(answer) if isinstance(answer, Denied) else _allowed(answer)


def _required(extensions: Mapping[str, str]) -> Sequence[str] | None:
    """Return the scopes in a route's settings; None for settings that do not say what was meant."""
    if not extensions:
        return ()
    scopes = required_scopes(extensions[_REQUIRED]) if _REQUIRED in extensions else ()
    unknown = [key for key in extensions if key.startswith(_PREFIX) and key != _REQUIRED]
    if scopes is None or unknown:
        _log.error(
            "Envoy's context_extensions: %s; write %s: orders:read orders:write",
            f"{unknown[0]} is unknown" if unknown else f"{extensions[_REQUIRED]!r} are no scopes",
            _REQUIRED,
        )
        return None
    return scopes


def _allowed(answer: Allowed) -> CheckResponse:
    return CheckResponse(
        status=_OK,
        ok_response=OkHttpResponse(
            headers=_headers(answer.set_headers), headers_to_remove=answer.removed_headers
        ),
        dynamic_metadata=None if answer.credential is None else _metadata(answer.credential),
    )


def _denied(answer: Denied) -> CheckResponse:
    return CheckResponse(
        status=_CODES[answer.status],
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=answer.status), headers=_headers(answer.headers()), body=answer.body()
        ),
    )


def _headers(headers: Iterable[tuple[str, str]]) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=_OVERWRITE)
        for name, value in headers
    ]


def _metadata(credential: Credential) -> Struct:
    """Return what Envoy's other filters, such as the one of rate limits, can read."""
    metadata = Struct()
    fields = metadata.fields
    fields[_IDS[credential.kind]].string_value = credential.credential_id
    fields["owner_id"].string_value = credential.owner_id
    fields["credential_type"].string_value = credential.kind.value
    scopes = fields["scopes"].list_value.values
    for scope in credential.scopes:
        scopes.add().string_value = scope
    if not credential.scopes:
        fields["scopes"].list_value.SetInParent()
    return metadata
