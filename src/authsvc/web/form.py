"""The body of a request to an OAuth endpoint: parameters in a form (RFC 6749, appendix B).

Bound: `MAX_BYTES` and `MAX_FIELDS`. The body is read before its sender is known, since it says which RPC has
to be called; time and connections are bounded by the server.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.types import Receive

#: Far more than a token and its hint have; whatever is longer is no token of ours.
MAX_BYTES = 16 * 1024
MAX_FIELDS = 16
_MEDIA_TYPE = "application/x-www-form-urlencoded"


class BadFormError(Exception):
    """A request without a valid form. The message never has anything of the form."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status, self.message = http_status, message


class GoneError(Exception):
    """The client is gone."""


def check_head(headers: Sequence[tuple[str, str]]) -> None:
    """Raise BadFormError unless the headers announce a form in UTF-8 that is not too long."""
    found = [value for name, value in headers if name == "content-type"]
    media_type, _, parameters = (found[0] if len(found) == 1 else "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if media_type.strip() != _MEDIA_TYPE or charset not in ("", "charset=utf-8"):
        raise BadFormError(415, f"the content-type has to be {_MEDIA_TYPE}, in UTF-8")
    for name, value in headers:
        if name == "content-encoding" and value.strip().lower() not in ("", "identity"):
            raise BadFormError(415, "the body must not be compressed")
        # A number that is not well formed is left to the server.
        if name == "content-length" and value.isdecimal() and float(value) > MAX_BYTES:
            raise _too_long()


async def read(receive: Receive) -> Mapping[str, str]:
    """Return the parameters that have a value; raise BadFormError, and GoneError."""
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise GoneError
        body += event.get("body", b"")
        if len(body) > MAX_BYTES:
            raise _too_long()
        if not event.get("more_body", False):
            return _parsed(bytes(body))


def _parsed(body: bytes) -> Mapping[str, str]:
    try:
        pairs = [
            # Tokens are of any bytes; that one is none of ours is for its verification to say.
            (_text(name), _text(value, "replace" if name == "token" else "strict"))
            for name, value in parse_qsl(
                # A character for each byte.
                body.decode("latin-1"),
                keep_blank_values=True,
                max_num_fields=MAX_FIELDS,
                encoding="latin-1",
            )
        ]
    except UnicodeDecodeError:
        problem = "the form is not in UTF-8"
    except ValueError:
        problem = f"the form has more than {MAX_FIELDS} parameters"
    else:
        found = dict(pairs)
        if len(found) == len(pairs):
            # A parameter without a value counts as left out (RFC 6749, 3.1).
            return {name: value for name, value in found.items() if value}
        problem = "the form has a parameter twice"
    # Without the error, which has the body.
    raise BadFormError(400, problem)


def _text(octets: str, errors: str = "strict") -> str:
    """Return the text in UTF-8 of which each byte is a character."""
    return octets.encode("latin-1").decode("utf-8", errors)


def _too_long() -> BadFormError:
    return BadFormError(413, f"the form has more than {MAX_BYTES} bytes")
