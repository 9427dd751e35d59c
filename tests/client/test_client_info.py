"""The client cleans the description of a user's device by the same rules as authsvc."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.client import client_info
from authsvc.client.questions import about_key
from authsvc.model.address import normalized
from tests.addresses import ADDRESSES

_PARTS = [
    "[",
    "]",
    ":",
    "::",
    "%",
    ".",
    " ",
    "1",
    "ffff",
    "fe80",
    "203.0.113.7",
    "2001:DB8::1",
    "eth0",
    "z" * 30,
]


@pytest.mark.parametrize(("text", "kept"), ADDRESSES)
def test_an_address_has_one_spelling(text: str, kept: str) -> None:
    """The result is the same as that of the service."""
    assert client_info.address(text) == kept


@given(st.lists(st.sampled_from(_PARTS), max_size=8).map("".join) | st.text() | st.ip_addresses().map(str))
@example("[::1]rubbish")
def test_addresses_are_read_as_by_the_service(text: str) -> None:
    """Also for random texts."""
    assert client_info.address(text) == normalized(text)


@pytest.mark.parametrize("scope", [1, None, b"a", ["a"], "", " ", "ä"])
def test_a_scope_that_is_none(scope: Any) -> None:
    """The error is the same whether the scope can be remembered or not."""
    for _ in range(2):
        with pytest.raises(ValueError, match="is not a valid scope"):
            about_key(["a", scope], "")
