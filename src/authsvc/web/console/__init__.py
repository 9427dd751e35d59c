"""The console: pages for people, made on the server from the answers of RPCs.

Mechanism: `application` says which page is at which path. A page calls RPCs with the credential of whoever
is signed in (`session`; `sign_in` and `oidc/` open it), so it can do what the scopes of the caller allow, and
nothing else. Every change is a form with a token (`forgery`). `page_request` is what a page knows of its
request, `calls` calls the RPCs, `problem` is a refusal, and `pages` renders the templates with the texts of
`texts.toml`.
"""

from authsvc.web.console.application import console
from authsvc.web.console.parts import Oidc, SessionTimes

__all__ = ["Oidc", "SessionTimes", "console"]
