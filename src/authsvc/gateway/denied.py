"""A refusal, as the client of the proxy gets it.

Over HTTP: RFC 6750 for the challenge, RFC 9457 for the body. To a client of gRPC or gRPC-Web: a status in the
headers, with the details of AIP-193, and no body.
"""

import json
import math
import re
import string
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from authsvc.entrance.rich_status import rich_status
from authsvc.model.errors import RetryableError

PROBLEM = "application/problem+json"

_GRPC = re.compile(r"application/grpc(?:-web(?:-text)?)?(?:\+[a-z0-9.-]{1,32})?")
# Of google.rpc.Code, by the status of HTTP.
_CODES = {401: 16, 403: 7, 503: 14, 500: 13}
# What `grpc-message` has as it is: visible characters and the space, but for the percent sign.
_PLAIN = (string.ascii_letters + string.digits + string.punctuation + " ").replace("%", "")


def grpc_media_type(content_type: str) -> str:
    """Return the media type of a request of gRPC or gRPC-Web, without parameters; "" for any other."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type if _GRPC.fullmatch(media_type) else ""


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request does not get through.

    `status` is 401, 403 or 503, or 500 when the proxy is wrong; nginx makes a 500 of all others but the first
    two. `reason` is stable UPPER_SNAKE. `error` is that of RFC 6750, none where no credential was shown.
    """

    status: int
    reason: str
    title: str
    detail: str
    error: str = ""
    scheme: str = ""
    missing_scopes: Sequence[str] = ()
    retry_after: float = 0

    @classmethod
    def of(cls, error: RetryableError) -> Self:
        """Return the refusal when something cannot be known now."""
        return cls(
            503, error.reason, "Cannot be known now", f"{error.message}.", retry_after=error.retry_after
        )

    @property
    def code(self) -> int:
        """The code of gRPC, a number of `google.rpc.Code`."""
        return _CODES[self.status]

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the answer."""
        headers = [("content-type", PROBLEM), ("cache-control", "no-store")]
        if self.scheme:
            headers.append(("www-authenticate", self._challenge()))
        if self.retry_after:
            headers.append(("retry-after", str(math.ceil(self.retry_after))))
        return headers

    def grpc_headers(self, media_type: str) -> list[tuple[str, str]]:
        """Return the headers of an answer of gRPC that has nothing else ("trailers only")."""
        metadata = {"required_scope": " ".join(self.missing_scopes)} if self.missing_scopes else {}
        retry_after = self.retry_after or None
        status = rich_status(self.code, self.detail, self.reason, metadata, retry_after=retry_after)
        return [
            ("content-type", media_type),
            ("cache-control", "no-store"),
            ("grpc-status", str(self.code)),
            ("grpc-message", quote(status.message, safe=_PLAIN)),
            ("grpc-status-details-bin", b64encode(status.SerializeToString()).decode().rstrip("=")),
        ]

    def body(self) -> str:
        """Return the problem as JSON, in ASCII and on one line, so that it fits into a header as well."""
        problem: dict[str, object] = {
            "type": f"urn:authsvc:problem:{self.reason.lower().replace('_', '-')}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.missing_scopes:
            problem["missing_scopes"] = list(self.missing_scopes)
        return json.dumps(problem)

    def _challenge(self) -> str:
        told = f'{self.scheme} realm="authsvc"'
        if self.error:
            told += f', error="{self.error}", error_description="{self.detail}"'
        if self.missing_scopes:
            told += f', scope="{" ".join(self.missing_scopes)}"'
        return told
