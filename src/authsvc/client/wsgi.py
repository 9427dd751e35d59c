"""The middleware that authenticates every request of a WSGI application: Flask, Django, Pyramid, Bottle."""

from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from authsvc.client.blocking_auth_client import BlockingAuthClient
from authsvc.client.http_middleware import IDENTITY, HttpMiddleware, HttpRequest, address_of
from authsvc.client.identity import Identity, set_current
from authsvc.client.problem import problem_of
from authsvc.client.refusal import Refusal

_HEADER = "HTTP_"


class AuthenticatedWsgi(HttpMiddleware[WSGIApplication, BlockingAuthClient]):
    """Verifies the credential of each request before the application is called.

        application = AuthenticatedWsgi(application, client, scopes={"GET /orders": "orders:read"})

    - 401: there is no credential, more than one, or one that is not valid.
    - 403: a scope is missing, or the method and path are not listed.
    - 503, with Retry-After: the credential cannot be verified right now. The cause is in our log.

    The application gets the caller from `current()`, also while it produces the response, or from
    `environ["authsvc.identity"]`. Any number of threads may serve requests. The client connects with the
    first request, so a server may load the application before it forks.
    """

    _kind_of_client = BlockingAuthClient

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request (PEP 3333)."""
        try:
            identity = self._identify(environ)
        except Exception as error:  # noqa: BLE001 - no failure lets a request through
            return _refuse(self._faults.refusal("a request", error), environ, start_response)
        environ[IDENTITY] = identity
        set_current(identity)
        try:
            response = self._app(environ, start_response)
        finally:
            set_current(None)  # the thread will serve other requests
        if identity is None or _runs_no_code(response, environ):
            return response
        return _Response(response, identity)

    def _identify(self, environ: WSGIEnvironment) -> Identity | None:
        """Return the caller, and remove from the environ what the application must not see."""
        headers = [
            (key, key[len(_HEADER) :].replace("_", "-").lower(), value)
            for key, value in environ.items()
            if key.startswith(_HEADER)
        ]
        asked = self._examined(
            HttpRequest(
                environ["REQUEST_METHOD"],
                _path(environ),
                environ.get("RAW_URI") or environ.get("REQUEST_URI") or "",
                [(name, value) for _, name, value in headers],
                lambda: self._address(environ),
            )
        )
        verdicts = [question.ask(self._client, self._deadline(asked)) for question in asked.questions]
        admitted = self._admitted(asked, verdicts)
        for key, name, value in headers:
            shown = self._shown(name, value, admitted)
            if shown is None:
                del environ[key]
            else:
                environ[key] = shown
        return admitted.identity

    def _address(self, environ: WSGIEnvironment) -> str:
        if self._client_address is not None:
            return self._client_address(environ)
        return address_of(environ.get("REMOTE_ADDR"))


class _Response:
    """The body of a response. The code that produces it knows the caller."""

    def __init__(self, body: Iterable[bytes], identity: Identity) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._identity = identity

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        set_current(self._identity)
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        finally:
            set_current(None)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            set_current(self._identity)
            try:
                close()
            finally:
                set_current(None)


def _path(environ: WSGIEnvironment) -> str:
    """Return the path that the application is called with. Servers decode it as ISO-8859-1 (PEP 3333)."""
    try:
        return environ.get("PATH_INFO", "").encode("latin-1").decode() or "/"
    except UnicodeError:
        return ""  # ambiguous


def _runs_no_code(response: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Return whether a response should stay as it is: servers send files and single parts faster."""
    wrapper: Any = environ.get("wsgi.file_wrapper")
    return type(response) in (list, tuple) or (isinstance(wrapper, type) and isinstance(response, wrapper))


def _refuse(refusal: Refusal, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    problem = problem_of(refusal, environ.get("REQUEST_METHOD", ""))
    start_response(f"{problem.status.value} {problem.status.phrase}", problem.headers)
    return [problem.body]
