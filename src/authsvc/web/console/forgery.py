"""Keeps other sites from sending forms in the name of whoever is signed in.

Mechanism: every form has a token, the HMAC of its path under the session token, which other sites cannot
know. Browsers also say where a request comes from, by Sec-Fetch-Site, or else by Origin; under our referrer
policy that is `null` even for our own pages, which says nothing.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request

#: The field of forms that has the token.
FIELD = "form_token"
_OWN_SITES = frozenset({"same-origin", "none"})


def form_token(secret: str, path: str) -> str:
    """Return the token of a form that is sent to a path."""
    mac = hmac.digest(secret.encode(), b"authsvc console form\0" + path.encode(), sha256)
    return urlsafe_b64encode(mac).decode().rstrip("=")


def is_forged(request: Request, secret: str, token: str) -> bool:
    """Return whether a request that changes something did not come from a page of ours."""
    if not is_from_here(request):
        return True
    wanted = form_token(secret, request.url.path)
    return not secret or not hmac.compare_digest(wanted.encode(), token.encode())


def is_from_here(request: Request) -> bool:
    """Return whether the browser says that a page of ours sent this, or says nothing."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in _OWN_SITES
    origin = request.headers.get("origin", "null")
    return origin == "null" or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
