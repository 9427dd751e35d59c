"""The parts of Envoy's answer that tell whose request it is, serialized, and kept for each credential.

Bound: `_MAX_ENTRIES` credentials, and `_MAX_BYTES` of each; when there are more, all are dropped. An entry is
used for as long as the credential has the kind, the owner and the scopes that it was made from.
"""

from authsvc.gateway import identity
from authsvc.gateway.v1.ext_authz_pb2 import CheckResponse, HeaderValue, HeaderValueOption, OkHttpResponse
from authsvc.model.credential import Credential, CredentialKind

_MAX_ENTRIES, _MAX_BYTES = 8192, 1024
#: Of HeaderValueOption: overwrite the header if the client has sent it.
OVERWRITE = 2
_IDS = {CredentialKind.KEY: "key_id", CredentialKind.SESSION: "session_id"}
# A part of OkHttpResponse, and a part of CheckResponse.
_Parts = tuple[bytes, bytes]
# What they say of a credential, besides its id.
_Told = tuple[CredentialKind, str, tuple[str, ...]]


class Identities:
    """Makes the parts, and keeps them."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[_Told, _Parts]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def parts(self, credential: Credential | None) -> _Parts:
        """Return what sets and removes our headers, and the metadata for other filters of Envoy."""
        if credential is None:
            return _NOBODY
        kept = self._kept.get(credential.credential_id)
        told = credential.kind, credential.owner_id, credential.scopes
        if kept is not None and kept[0] == told:
            return kept[1]
        parts = _headers(credential), _metadata(credential)
        if sum(map(len, parts)) <= _MAX_BYTES:
            if len(self._kept) >= _MAX_ENTRIES:
                self._kept.clear()
            self._kept[credential.credential_id] = told, parts
        return parts


def _headers(credential: Credential | None) -> bytes:
    options = [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=OVERWRITE)
        for name, value in identity.headers(credential)
    ]
    removed = identity.absent(credential)
    return OkHttpResponse(headers=options, headers_to_remove=removed).SerializeToString()


def _metadata(credential: Credential) -> bytes:
    """Return metadata such as a filter for rate limits uses."""
    message = CheckResponse()
    message.dynamic_metadata.update(
        {
            _IDS[credential.kind]: credential.credential_id,
            "owner_id": credential.owner_id,
            "credential_type": credential.kind.value,
            "scopes": list(credential.scopes),
        }
    )
    return message.SerializeToString()


_NOBODY = _headers(None), b""
