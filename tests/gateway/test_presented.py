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


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        (f"sid={GOOD}", ""),
        (f"a=b; sid={GOOD}; c=d=e", "a=b; c=d=e"),
        (f"sid={GOOD}; a=1", "a=1"),
        (f"a=1; sid={GOOD}", "a=1"),
        (f"a=1;sid={GOOD};b=2", "a=1;b=2"),
        (f"a=1;  sid = {GOOD} ; b=2", "a=1; b=2"),
        (f"a=1; sid={GOOD}; b=2; sid={OTHER}; sid; sid=", "a=1; b=2"),
        (f'a=1,2; sid="{GOOD}"', "a=1,2"),
        (f'p={{"a":1, "b":[2,3]}}; sid={GOOD}; c=d', 'p={"a":1, "b":[2,3]}; c=d'),
        (f"consent=2024-01-01T00:00:00,x=y,; sid={GOOD}", "consent=2024-01-01T00:00:00,x=y,"),
        (f"a=1,sid=2,b; sid={GOOD}; ;", "a=1,sid=2,b; ;"),
        (f"a=1,sid={GOOD},b; c=d", "a=1,b; c=d"),
        (f"a=1, sid={GOOD}", "a=1"),
        (f"sid={GOOD},b=2; c=d", "c=d"),
        ('a=b,;c;;d="e; f"  g', 'a=b,;c;;d="e; f"  g'),
    ],
)
def test_the_cookie_is_taken_out_alone(value: str, rest: str) -> None:
    """Each other cookie stays as it is, byte for byte: a comma does not end one."""
    assert ALL.without_cookie(value) == rest


@given(
    st.lists(st.text(st.characters(exclude_characters=";"), min_size=1, max_size=30), max_size=5), st.data()
)
def test_the_other_cookies_are_not_touched(others: list[str], data: st.DataObject) -> None:
    """Whatever is in them, and wherever ours stands between them."""
    others = [text for other in others if "sid" not in other and (text := other.strip())]
    place = data.draw(st.integers(0, len(others)))
    value = "; ".join([*others[:place], f"sid={GOOD}", *others[place:]])
    assert ALL.without_cookie(value) == "; ".join(others)


@given(st.lists(st.sampled_from(["sid", "=", ";", ",", " ", '"', "a", GOOD, f"sid={GOOD}"]), max_size=12))
def test_no_credential_is_left(parts: list[str]) -> None:
    """What would be found in the cookies is no more found in those that the upstream gets."""
    rest = ALL.without_cookie("".join(parts))
    assert GOOD not in ALL.find({"cookie": rest}).texts


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_no_header_breaks_it(authorization: str, api_key: str, cookie: str) -> None:
    """Whatever stands there, something is found or nothing; nothing is raised."""
    ALL.find({"authorization": authorization, "x-api-key": api_key, "cookie": f"sid={cookie}"})
    ALL.find({"authorization": f"Basic {authorization}"})
    assert "sid=" not in ALL.without_cookie(f"sid={GOOD}; a=b")
