"""Where a credential stands in a request, and which it is."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.gateway.presented import NOTHING, Carriers

GOOD, OTHER = "authsvc_live_" + "a" * 63, "authsvc_live_" + "b" * 63
ALL = Carriers(("bearer", "basic", "x-api-key", "cookie:sid"))


def _basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"authorization": f"Bearer {GOOD}"}, ["authorization"]),
        ({"authorization": f"  bearer   {GOOD} "}, ["authorization"]),
        ({"authorization": f"Bearer\t{GOOD}", "x-api-key": GOOD}, ["authorization", "x-api-key"]),
        ({"authorization": _basic(f"{GOOD}:")}, ["authorization"]),
        ({"authorization": _basic(GOOD)}, ["authorization"]),
        ({"authorization": _basic(f":{GOOD}")}, ["authorization"]),
        ({"authorization": _basic(f"user:{GOOD}")}, ["authorization"]),
        ({"authorization": _basic(f"{GOOD}:x-oauth-basic")}, ["authorization"]),
        ({"authorization": _basic(f"{GOOD}:{GOOD}")}, ["authorization"]),
        ({"authorization": f"Basic {GOOD}"}, ["authorization"]),
        ({"x-api-key": f" {GOOD} "}, ["x-api-key"]),
        ({"cookie": f"a=b; sid={GOOD}; c=d"}, ["cookie"]),
        ({"cookie": f'sid="{GOOD}"'}, ["cookie"]),
        ({"cookie": f"sid={GOOD}", "x-api-key": GOOD}, ["x-api-key", "cookie"]),
        ({"authorization": 'Digest username="x", realm="y"', "x-api-key": GOOD}, ["x-api-key"]),
    ],
)
def test_one_credential_is_found(headers: dict[str, str], names: list[str]) -> None:
    """In each place, and in several when it is the same; the headers that hold it are known."""
    found = ALL.find(headers)
    assert (list(found.texts), list(found.headers)) == ([GOOD], names)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {GOOD}", "x-api-key": OTHER},
        {"authorization": f"Bearer {GOOD}", "x-api-key": ""},
        {"authorization": f"Bearer\t{GOOD}", "x-api-key": OTHER},
        {"authorization": f"Bearer {GOOD},Bearer {GOOD}"},
        {"authorization": f"Bearer {GOOD},x"},
        {"authorization": f"Digest x, Bearer {GOOD}"},
        {"authorization": f"Digest x,basic {GOOD}", "x-api-key": GOOD},
        {"authorization": _basic(f"{GOOD}:{OTHER}")},
        {"x-api-key": f"{GOOD},{GOOD}"},
        {"cookie": f"sid={GOOD}; sid={OTHER}"},
        {"cookie": f"sid={GOOD},sid={OTHER}"},
        {"cookie": f"sid={GOOD}; sid="},
    ],
)
def test_several_are_several(headers: dict[str, str]) -> None:
    """Whatever the upstream would make of it, we do not choose."""
    assert len(ALL.find(headers).texts) > 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Digest x"},
        {"authorization": ""},
        {"cookie": "xsid=1; SID=2; sidx=3"},
        {"cookie": "sid"},
        {"x-auth-key-id": GOOD},
    ],
)
def test_nothing_is_nothing(headers: dict[str, str]) -> None:
    """Headers that are not ours are not looked into; a cookie is known by its exact name."""
    found = ALL.find(headers)
    assert found is NOTHING or list(found.texts) == [""]


def test_only_what_is_configured_is_looked_at() -> None:
    """A bearer token of the upstream's own is none of our business where bearer is not listed."""
    carriers = Carriers(("x-api-key",))
    headers = {"authorization": "Bearer theirs", "x-api-key": GOOD, "cookie": f"sid={OTHER}"}
    assert list(carriers.find(headers).texts) == [GOOD]
    assert carriers.scheme == "ApiKey"
    assert list(Carriers(("basic",)).find({"authorization": f"Bearer {GOOD}"}).texts) == []
    assert Carriers(("cookie:sid", "basic", "bearer")).scheme == "Basic"


def test_the_cookie_is_taken_out_alone() -> None:
    """The other cookies stay as they are."""
    assert ALL.without_cookie(f"a=b; sid={GOOD}; c=d=e") == "a=b; c=d=e"
    assert ALL.without_cookie(f"sid={GOOD}") == ""


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_no_header_breaks_it(authorization: str, api_key: str, cookie: str) -> None:
    """Whatever stands there, something is found or nothing; nothing is raised."""
    ALL.find({"authorization": authorization, "x-api-key": api_key, "cookie": f"sid={cookie}"})
    ALL.find({"authorization": f"Basic {authorization}"})
    assert "sid=" not in ALL.without_cookie(f"sid={GOOD}; a=b")
