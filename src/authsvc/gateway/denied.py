"""A refusal in the form in which the client of the proxy gets it.

Over HTTP, the challenge follows RFC 6750, and the body RFC 9457. Clients of gRPC and gRPC-Web get a status
in the headers, with the details of AIP-193, and no body.
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
from authsvc.gateway.limit_headers import limit_headers
from authsvc.model.errors import RetryableError
from authsvc.model.rate_limit import RateLimits
from authsvc.model.refusal import LIMITED
from authsvc.model.verdict import VerdictCode

PROBLEM = "application/problem+json"

_GRPC = re.compile(r"application/grpc(?:-web(?:-text)?)?(?:\+[a-z0-9.-]{1,32})?")
# Numbers of google.rpc.Code, by the status of HTTP.
_CODES = {401: 16, 403: 7, 429: 8, 503: 14, 500: 13}
# Characters that `grpc-message` holds unescaped: visible ones and the space, except the percent sign.
_PLAIN = (string.ascii_letters + string.digits + string.punctuation + " ").replace("%", "")


def grpc_media_type(content_type: str) -> str:
    """Return the media type of a request of gRPC or gRPC-Web, without parameters; "" for any other."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type if _GRPC.fullmatch(media_type) else ""


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request is refused.

    `status` is 401, 403, 429 or 503, or 500 for a misconfigured proxy; nginx turns all but 401 and 403 into
    500.
    `reason` is stable, in UPPER_SNAKE_CASE. `error` is that of RFC 6750, and empty without a credential.
    """

    status: int
    reason: str
    title: str
    detail: str
    error: str = ""
    scheme: str = ""
    missing_scopes: Sequence[str] = ()
    retry_after: float = 0
    # Scopes of which one is required.
    any_of_scopes: Sequence[str] = ()
    limit_headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, error: RetryableError) -> Self:
        """Return the refusal for a decision that is not possible now."""
        return cls(
            503, error.reason, "Temporarily unavailable", f"{error.message}.", retry_after=error.retry_after
        )

    @classmethod
    def limited(cls, code: VerdictCode, retry_after: float, limits: RateLimits | None) -> Self:
        """Return the refusal of a key that has reached a limit or has no credits; it may wait for ever."""
        reason, problem = LIMITED[code]
        return cls(
            429,
            reason,
            "A rate limit is reached" if code is VerdictCode.RATE_LIMITED else "There are too few credits",
            f"The credential {problem}.",
            retry_after=0 if retry_after == math.inf else retry_after,
            limit_headers=limit_headers(limits),
        )

    @property
    def code(self) -> int:
        """The number of `google.rpc.Code`."""
        return _CODES[self.status]

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the answer."""
        headers = [("content-type", PROBLEM), ("cache-control", "no-store")]
        if self.scheme:
            headers.append(("www-authenticate", self._challenge()))
        if self.retry_after:
            headers.append(("retry-after", str(math.ceil(self.retry_after))))
        return [*headers, *self.limit_headers]

    def grpc_headers(self, media_type: str) -> list[tuple[str, str]]:
        """Return the headers of a gRPC answer without a body ("Trailers-Only")."""
        metadata = {"required_scope": " ".join(self.missing_scopes)} if self.missing_scopes else {}
        if self.any_of_scopes:
            metadata["any_of_scopes"] = " ".join(self.any_of_scopes)
        retry_after = self.retry_after or None
        status = rich_status(self.code, self.detail, self.reason, metadata, retry_after=retry_after)
        return [
            ("content-type", media_type),
            ("cache-control", "no-store"),
            ("grpc-status", str(self.code)),
            ("grpc-message", quote(status.message, safe=_PLAIN)),
            ("grpc-status-details-bin", b64encode(status.SerializeToString()).decode().rstrip("=")),
            *self.limit_headers,
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
        if self.any_of_scopes:
            problem["any_of_scopes"] = list(self.any_of_scopes)
        return json.dumps(problem)

    def _challenge(self) -> str:
        told = f'{self.scheme} realm="authsvc"'
        if self.error:
            told += f', error="{self.error}", error_description="{self.detail}"'
        if scopes := self.missing_scopes or self.any_of_scopes:
            told += f', scope="{" ".join(scopes)}"'
        return told
