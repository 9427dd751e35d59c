"""A request without a body and its answer, over HTTP/1.1."""

from typing import NamedTuple


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
