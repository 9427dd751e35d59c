"""A refusal, as the client of the proxy gets it: RFC 6750 for the challenge, RFC 9457 for the body."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from authsvc.errors import Passing

PROBLEM = "application/problem+json"


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
    def of(cls, error: Passing) -> Self:
        """Return the refusal when something cannot be known now."""
        return cls(
            503, error.reason, "Cannot be known now", f"{error.message}.", retry_after=error.retry_after
        )

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the answer."""
        headers = [("content-type", PROBLEM), ("cache-control", "no-store")]
        if self.scheme:
            headers.append(("www-authenticate", self._challenge()))
        if self.retry_after:
            headers.append(("retry-after", str(math.ceil(self.retry_after))))
        return headers

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
