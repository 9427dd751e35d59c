"""How `authsvc keys` parses its arguments."""

import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from authsvc.cli.call import ClientError
from authsvc.cli.contacts import read_contact
from authsvc.cli.key_table import key_table
from authsvc.cli.keys import _annotation, _tell_cascade
from authsvc.cli.minting import mint
from authsvc.rpc.confirmation import CASCADE_KEYS, CASCADE_SESSIONS
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2


@pytest.mark.parametrize(
    ("text", "name", "email"),
    [
        ("Ada <ada@example.org>", "Ada", "ada@example.org"),
        ("  Ada  Lovelace   <ada@example.org>  ", "Ada  Lovelace", "ada@example.org"),
        ("Ops, on call <ops@example.org>", "Ops, on call", "ops@example.org"),
        ("O'Neil <o'neil@example.org>", "O'Neil", "o'neil@example.org"),
        ("a > b <c@example.org>", "a > b", "c@example.org"),
    ],
)
def test_a_contact_is_a_name_and_an_address(text: str, name: str, email: str) -> None:  # rule 4
    """The name is the text before the address, without surrounding spaces."""
    contact = read_contact(text)
    assert (contact.name, contact.email) == (name, email)


@pytest.mark.parametrize(
    "text", ["", "Ada", "ada@example.org", "<ada@example.org>", "Ada <>", "Ada <a> b", "Ada <a"]
)
def test_what_is_no_contact_is_told(text: str) -> None:  # rule 4
    """The error has the option, the value and the correct form."""
    with pytest.raises(ClientError, match=r"^--contact .*: write it as 'Name <mail@example.org>'$"):
        read_contact(text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("team=payments", "team", "payments"),
        ("q=a=b", "q", "a=b"),
        ("empty=", "empty", ""),
        ("a= b ", "a", " b "),
    ],
)
def test_an_annotation_is_a_name_and_a_value(text: str, name: str, value: str) -> None:
    """The first equals sign separates them; the value is not changed."""
    assert _annotation(text) == (name, value)


def test_what_is_no_annotation_is_told() -> None:
    """The error has the option, the value and the correct form."""
    with pytest.raises(ClientError, match=r"^--annotation 'team': write it as name=value$"):
        _annotation("team")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (resources_pb2.Key(never_delivered=True), "never delivered"),
        (resources_pb2.Key(), "never"),
        (resources_pb2.Key(last_use_time=Timestamp(seconds=1_800_000_000)), "2027-01-15"),
    ],
)
def test_a_list_says_what_was_never_delivered(key: resources_pb2.Key, told: str) -> None:
    """The table says so in the column of the last use."""
    key.state = resources_pb2.KEY_STATE_ACTIVE
    console = Console(width=240, file=io.StringIO())
    console.print(key_table([key]))
    assert isinstance(console.file, io.StringIO)
    row = console.file.getvalue().splitlines()[1]
    # The key has no other text and no creation time.
    assert told in row
    assert ("delivered" in row) == key.never_delivered


@pytest.mark.parametrize(
    ("keys", "sessions", "said"),
    [
        ("1", "2", "Revoked with it: 1 key and 2 sessions."),
        ("0", "1", "Revoked with it: 0 keys and 1 session."),
    ],
)
def test_what_a_cascade_has_ended(
    capsys: pytest.CaptureFixture[str], keys: str, sessions: str, said: str
) -> None:
    """It is said after the table."""
    _tell_cascade("key_1", {CASCADE_KEYS: keys, CASCADE_SESSIONS: sessions})
    assert capsys.readouterr().err.strip() == said


def test_a_service_that_knows_no_cascade() -> None:
    """An older release ignores the field, and the answer does not say what has ended."""
    with pytest.raises(ClientError, match=r"too old for --cascade: key_1 is revoked, and what it created is"):
        _tell_cascade("key_1", {"authsvc-wait-ms": "1.0"})


@pytest.mark.parametrize("answer", [pb.CreateKeyResponse, pb.RotateKeyResponse])
async def test_a_service_that_does_not_seal(
    answer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # rule 1
    """An older release ignores the field. Its key string is not shown, since others would see it."""
    given = answer(key=resources_pb2.Key(key_id="key_1"), key_string="authsvc_live_" + "4" * 63)
    stub = mock.Mock(
        CreateKey=mock.AsyncMock(return_value=given), RotateKey=mock.AsyncMock(return_value=given)
    )

    @asynccontextmanager
    async def service() -> AsyncIterator[Any]:
        yield stub, ()

    monkeypatch.setattr(sys.modules[mint.__module__], "service", service)
    request = pb.CreateKeyRequest() if answer is pb.CreateKeyResponse else pb.RotateKeyRequest()
    with pytest.raises(ClientError, match=r"key_1 was not sealed, and is not shown; revoke this key"):
        await mint(request, "age1")
    assert "4444" not in "".join(capsys.readouterr())
