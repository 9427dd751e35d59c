"""The details of an error fit into the trailers that clients accept, which are 8 KiB."""

from base64 import b64encode
from urllib.parse import quote

import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from authsvc.entrance.rich_status import rich_status

_WIDE = "\U00020000"
# What a trailer takes besides its name and value (RFC 9113, 6.5.2), and :status and content-type.
_FRAME_BYTES, _OTHER_BYTES = 32, 150


def size(status: Status) -> int:
    """Return the bytes of the trailers of a status."""
    trailers = {
        "grpc-status": str(status.code),
        "grpc-message": quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~\\"),
        "grpc-status-details-bin": b64encode(status.SerializeToString()).decode(),
    }
    return _OTHER_BYTES + sum(len(name) + len(value) + _FRAME_BYTES for name, value in trailers.items())


def details(status: Status) -> list[Message]:
    """Return the details of a status."""
    found = []
    for detail in status.details:
        kind = {"BadRequest": BadRequest, "ErrorInfo": ErrorInfo, "RetryInfo": RetryInfo}
        found.append(kind[detail.type_url.rpartition(".")[2]]())
        assert detail.Unpack(found[-1])
    return found


@pytest.mark.parametrize("character", ["x", "%", "\u00e9", "\u20ac", _WIDE])
@pytest.mark.parametrize("length", [1, 300, 10_000])
def test_any_text_fits(character: str, length: int) -> None:
    """A message and metadata of any length, with reason and delay."""
    text = character * length
    status = rich_status(8, text, "REASON", {"a": text, "b": text}, retry_after=2)
    assert size(status) < 8192
    info, retry = details(status)
    assert isinstance(info, ErrorInfo)
    assert isinstance(retry, RetryInfo)
    assert (info.reason, retry.retry_delay.seconds) == ("REASON", 2)
    assert text.startswith(status.message)
    assert text.startswith(info.metadata["a"])
    assert status.message
    assert info.metadata["a"]
    if length == 1:
        assert (status.message, info.metadata) == (text, {"a": text, "b": text})


def test_details_that_do_not_fit_are_left_out() -> None:
    """The others are kept."""
    large = BadRequest(field_violations=[BadRequest.FieldViolation(description="x" * 5000)])
    small = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    found = details(rich_status(3, "m", "R", {}, details=[large, small], retry_after=1))
    assert [type(detail) for detail in found] == [ErrorInfo, RetryInfo, BadRequest]
    assert found[2] == small


def test_lists_are_cut_between_items() -> None:
    """A list with commas ends with a whole item, a text without commas anywhere."""
    items = [f"{number:036}" for number in range(200)]
    [info] = details(rich_status(4, "m", "R", {"workers": ",".join(items)}))
    assert isinstance(info, ErrorInfo)
    named = info.metadata["workers"].split(",")
    assert named == items[: len(named)]
    assert len(named) > 80
    [info] = details(rich_status(4, "m", "R", {"text": "x" * 5000}))
    assert isinstance(info, ErrorInfo)
    assert len(info.metadata["text"]) == 3200
