"""What a foreign string is found by."""

import hashlib

import pytest

from authsvc.model.key_string import SESSION, KeyMint
from authsvc.model.look_up import (
    LENGTHS,
    digest_of,
    is_digest,
    is_foreign,
    look_ups_of,
    prefix_fault,
    shown,
)

MINT = KeyMint(b"k" * 32)


def test_a_string_has_nine_look_ups_at_most() -> None:
    """Its digest, then its beginnings from the longest on; the whole string is none."""
    text = "x" * 31 + "y" * 200
    assert list(look_ups_of(text)) == [digest_of(text), *(text[:length] for length in LENGTHS)]
    assert list(look_ups_of("abcdef")) == [digest_of("abcdef")]
    assert list(look_ups_of("abcdefg")) == [digest_of("abcdefg"), "abcdef"]
    assert digest_of("abc") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert is_digest(digest_of("\ud800\0"))


def test_the_three_kinds_of_prefix_are_told_apart() -> None:
    """A digest has another length than a look-up prefix, and neither has the form of ours."""
    for minted in (MINT.mint("eg", "live"), MINT.mint("a" * 10, "test"), MINT.mint("eg", SESSION)):
        assert not is_foreign(minted.prefix)
        assert is_foreign(minted.text)
        assert len(minted.prefix) not in LENGTHS or prefix_fault(minted.prefix)
    assert is_foreign(digest_of("x"))
    assert len(digest_of("x")) > max(LENGTHS)
    assert is_foreign("abcdef")


@pytest.mark.parametrize("prefix", ["abcdef", "sk_live_abcd", "!#$%&'()", "~" * 32, "sha256:0", "SG.abcde"])
def test_good_look_up_prefixes(prefix: str) -> None:
    assert prefix_fault(prefix) == ""


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a",
        "abcde",
        "abcdefg",
        "a" * 33,
        "abc ef",
        "abc,ef",
        "abcde\n",
        "äbcdef",
        "abcde\0",
        "eg_live_" + "A" * 12,
    ],
)
def test_bad_look_up_prefixes(prefix: str) -> None:
    assert prefix_fault(prefix)


def test_what_is_shown() -> None:
    assert shown(digest_of("x")) == digest_of("x")[:15]
    assert shown("abcdef") == "abcdef"
    assert shown(MINT.mint("eg", "live").prefix).startswith("eg_live_")
