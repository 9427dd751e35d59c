"""Which mail addresses are valid."""

# ruff: noqa: RUF001 - this is about letters of other scripts

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.mail_address import mail_fault

# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
HTML = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)


@pytest.mark.parametrize(
    "address",
    [
        "ops@example.org",
        "o'neil+keys@mail.example.co.uk",
        "root@localhost",
        "zoë@exämple.org",
        "用户@例子.公司",
        "अजय@डाटा.भारत",
        "квіточка@пошта.укр",
        "θσερ@εχαμπλε.ψομ",
        "Dörte@Sörensen.example.com",
        "نامه@می\u200cخواهم.ایران",
        "info@l·l.cat",
        "a@xn--bcher-kva.example",
    ],
)
def test_addresses_of_all_scripts(address: str) -> None:
    """Most are those of RFC 6531 and of the Universal Acceptance Steering Group."""
    assert mail_fault(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@b.c",
        "a@",
        "a b@c.d",
        "a\u3000b@c.d",
        "a@b@c",
        "a@b..c",
        "a@-b.c",
        "a@b。c",
        "a@b\u200bc.d",
        "zo\u202eë@b.c",
        "a@é b.c",
        "a@☃.example",
        "a@" + "é" * 63 + ".org",
        "é" * 125 + "@b.org",
        "a@[192.0.2.1]",
        "a\n@b.c",
        "a@b.c\ud800",
    ],
    ids=ascii,
)
def test_what_is_none(address: str) -> None:
    """The address is invalid, and the error says why."""
    assert mail_fault(address)


@given(
    st.text("aZ0.!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=20),
    st.lists(st.text("aZ0-", min_size=1, max_size=20), min_size=1, max_size=4),
)
def test_what_html_takes_is_taken(local: str, labels: list[str]) -> None:
    """Earlier releases had that rule: for ASCII the two agree."""
    address = f"{local}@{'.'.join(labels)}"
    assert bool(mail_fault(address)) == (HTML.fullmatch(address) is None)
