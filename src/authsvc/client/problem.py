"""A refusal as an HTTP response: the challenge of RFC 6750, and the problem of RFC 9457.

It has the form of `authsvc.gateway.denied`, which this package does not import.
"""

import json
import math
import re
from http import HTTPStatus
from typing import NamedTuple

import grpc

from authsvc.client.limit_headers import limit_headers
from authsvc.client.refusal import Refusal

_STATUSES = {
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
}
_INVALID = ("The credential is not valid", "invalid_token")
# The title, and the error of RFC 6750: none for a request without a credential that we can read.
_TOLD = {
    "CREDENTIAL_MISSING": ("A credential is required", ""),
    "CREDENTIAL_SCHEME": ("The scheme is not supported", ""),
    "CREDENTIAL_AMBIGUOUS": ("The credential is ambiguous", "invalid_request"),
    "CREDENTIAL_RATE_LIMITED": ("A rate limit is reached", ""),
    "CREDENTIAL_CREDITS_EXHAUSTED": ("There are too few credits", ""),
    "SCOPE_MISSING": ("A scope is missing", "insufficient_scope"),
    "ROUTE_NOT_PERMITTED": ("The route is not permitted", ""),
    "VERIFIER_UNAVAILABLE": ("Temporarily unavailable", ""),
}
# What a quoted string in a challenge may not hold (RFC 6750, section 3).
_NOT_QUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class Problem(NamedTuple):
    """The parts of the response. Names of headers are in lower case."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


def problem_of(refusal: Refusal, method: str) -> Problem:
    """Return the response to a request with this method: without a body for HEAD."""
    status = _STATUSES.get(refusal.code, HTTPStatus.SERVICE_UNAVAILABLE)
    title, error = _TOLD.get(refusal.reason, _INVALID)
    missing = refusal.metadata.get("required_scope", "")
    told: dict[str, object] = {
        "type": f"urn:authsvc:problem:{refusal.reason.lower().replace('_', '-')}",
        "title": title,
        "status": status.value,
        "detail": refusal.message,
        "reason": refusal.reason,
    }
    if missing:
        told["missing_scopes"] = missing.split(" ")
    body = json.dumps(told).encode()
    headers = [
        ("content-type", "application/problem+json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    ]
    if status is HTTPStatus.UNAUTHORIZED or error:
        challenge = 'Bearer realm="authsvc"'
        if error:
            challenge += f', error="{error}", error_description="{_quotable(refusal.message)}"'
        if missing:
            challenge += f', scope="{_quotable(missing)}"'
        headers.append(("www-authenticate", challenge))
    if refusal.retry_after is not None:
        headers.append(("retry-after", str(max(1, math.ceil(refusal.retry_after)))))
    headers.extend(limit_headers(refusal.limits))
    return Problem(status, headers, b"" if method == "HEAD" else body)


def _quotable(text: str) -> str:
    return _NOT_QUOTABLE.sub("", text)
