"""A request without a body and its answer, for applications that are a function from one to the other."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope


class Call(NamedTuple):
    """A request: header names in lower case, values in their order, and the address that it comes from."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    sender: str = ""

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for known, value in self.headers if known == name]


class Reply(NamedTuple):
    """An answer; the body is text."""

    status: int
    headers: list[tuple[str, str]] = []  # noqa: RUF012 - nobody changes it
    body: str = ""


Answer = Callable[[Call], Awaitable[Reply]]


def asgi(answer: Answer) -> "ASGI3Application":
    """Return the ASGI application that answers so; it receives no body."""

    async def application(scope: "Scope", _: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        assert scope["type"] == "http"  # noqa: S101 - the server has no other
        target, query = scope["raw_path"] or b"", scope["query_string"]
        reply = await answer(
            Call(
                scope["method"],
                (target + b"?" + query if query else target).decode("ascii"),
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
                scope["client"][0] if scope["client"] else "",
            )
        )
        body = reply.body.encode()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return application
