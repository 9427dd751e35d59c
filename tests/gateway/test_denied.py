"""How clients of gRPC get a refusal."""

from base64 import b64decode
from urllib.parse import unquote

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from authsvc.gateway.access import FAULT
from authsvc.gateway.denied import Denied, grpc_media_type
from authsvc.gateway.required import MAX_SCOPES
from authsvc.model.scope import MAX_LENGTH


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("application/grpc", "application/grpc"),
        ("application/grpc+proto", "application/grpc+proto"),
        ("Application/gRPC+JSON; charset=utf-8", "application/grpc+json"),
        ("application/grpc-web", "application/grpc-web"),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        ("application/grpc-web-text", "application/grpc-web-text"),
        (" application/grpc-web-text+proto ", "application/grpc-web-text+proto"),
        ("", ""),
        ("application/json", ""),
        ("application/grpc2", ""),
        ("application/grpc-", ""),
        ("application/grpc,text/html", ""),
        ("text/html; a=application/grpc", ""),
        ("application/grpc+\u00e9", ""),
        ("application/grpc\r\nx: y", ""),
        ("application/grpc+" + "x" * 33, ""),
        ("+" * 100_000, ""),
    ],
)
def test_what_is_grpc(content_type: str, media_type: str) -> None:
    """By the media type, with any parameters."""
    assert grpc_media_type(content_type) == media_type


def _read(denied: Denied) -> tuple[dict[str, str], Status]:
    headers = dict(denied.grpc_headers("application/grpc"))
    details = headers["grpc-status-details-bin"]
    assert "=" not in details
    return headers, Status.FromString(b64decode(details + "=" * (-len(details) % 4)))


def test_a_fault_is_internal() -> None:
    """As from any gRPC service, and without details beyond those of the JSON body."""
    headers, status = _read(FAULT)
    assert (headers["grpc-status"], status.code) == ("13", 13)
    assert unquote(headers["grpc-message"]) == status.message == FAULT.detail


def test_a_message_is_encoded() -> None:
    """Percent signs and non-ASCII characters; other characters stay readable."""
    headers, _ = _read(Denied(403, "X", "t", 'a "b" 100% <é>\n'))
    assert headers["grpc-message"] == 'a "b" 100%25 <%C3%A9>%0A'


def test_many_scopes_fit_into_headers() -> None:
    """A gRPC client accepts 8 KiB of headers."""
    scopes = [f"{number:02}:{'x' * (MAX_LENGTH - 3)}" for number in range(MAX_SCOPES)]
    headers, status = _read(Denied(403, "SCOPE_MISSING", "t", f"This needs {scopes}", missing_scopes=scopes))
    assert sum(len(name) + len(value) + 32 for name, value in headers.items()) < 8192
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["required_scope"].startswith(" ".join(scopes[:20]))
