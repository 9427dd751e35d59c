"""What browsers send: forms, cookies, and where they send them from.

Bound: a form has at most 256 KiB and 400 fields; what is larger is refused before it is parsed.
"""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

_MAX_BYTES, _MAX_FIELDS = 1 << 18, 400
_TYPE = "application/x-www-form-urlencoded"


class BadForm(Exception):
    """A body that is not a form, or too large."""


class Form:
    """The fields of a form, or of a query: several may have the same name."""

    def __init__(self, fields: Sequence[tuple[str, str]] = ()) -> None:
        self._fields = fields

    def __call__(self, name: str) -> str:
        """Return the first value of this name without blanks at its ends; "" if there is none."""
        return next((value.strip() for found, value in self._fields if found == name), "")

    def all(self, name: str) -> list[str]:
        """Return all values of this name."""
        return [value for found, value in self._fields if found == name]

    def __contains__(self, name: str) -> bool:
        """Return whether there is a field of this name."""
        return any(found == name for found, _ in self._fields)


def query(request: Request) -> Form:
    """Return the fields of the query."""
    return Form(request.query_params.multi_items())


async def read_form(request: Request) -> Form:
    """Return the form that was sent. Raises BadForm."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise BadForm
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise BadForm
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise BadForm from error
    # Browsers send line ends as CR LF.
    return Form([(name, value.replace("\r\n", "\n")) for name, value in fields])
