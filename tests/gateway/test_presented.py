"""Finding the credential in a request."""

from base64 import b64encode
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.client.presented import presented_in
from authsvc.client.refusal import Refusal
from authsvc.client.rich_status import read
from authsvc.gateway.presented import NOTHING, CredentialSources

GOOD, OTHER = "authsvc_live_" + "a" * 63, "authsvc_live_" + "b" * 63
ALL = CredentialSources(("bearer", "basic", "x-api-key", "cookie:sid"))


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
        ({"cookie": f"a=1,2; sid={GOOD}"}, ["cookie"]),
        ({"cookie": f"a=1,sid={GOOD}"}, ["cookie"]),
        ({"cookie": f"a=1 sid={GOOD}"}, ["cookie"]),
        ({"cookie": f"a=1\tsid = {GOOD} b; sid={GOOD}"}, ["cookie"]),
        # An empty value counts as not sent.
        ({"authorization": f"Bearer {GOOD}", "x-api-key": ""}, ["authorization"]),
        ({"authorization": f"Bearer {GOOD}", "cookie": 'sid=; a=b; sid=""; sid'}, ["authorization"]),
        ({"authorization": "Bearer", "x-api-key": GOOD}, ["x-api-key"]),
        ({"authorization": "Bearer ", "x-api-key": GOOD}, ["x-api-key"]),
        ({"authorization": "Basic", "x-api-key": GOOD}, ["x-api-key"]),
        ({"authorization": _basic(" : "), "x-api-key": GOOD}, ["x-api-key"]),
        ({"authorization": "", "x-api-key": GOOD}, ["x-api-key"]),
        ({"x-api-key": f",{GOOD}, "}, ["x-api-key"]),
        ({"cookie": f"sid=; sid={GOOD}"}, ["cookie"]),
        ({"cookie": f"sid; sid={GOOD}"}, ["cookie"]),
        ({"cookie": f"sid={GOOD}", "x-api-key": GOOD}, ["x-api-key", "cookie"]),
        ({"authorization": 'Digest username="x", realm="y"', "x-api-key": GOOD}, ["x-api-key"]),
    ],
)
def test_one_credential_is_found(headers: dict[str, str], names: list[str]) -> None:
    """In each place, or in several if they are equal; the headers that contain it are returned."""
    found = ALL.find(headers)
    assert not found.ambiguous
    assert (list(found.texts), list(found.headers)) == ([GOOD], names)


_SEVERAL = [
    {"authorization": f"Bearer {GOOD}", "x-api-key": OTHER},
    {"authorization": f"Bearer\t{GOOD}", "x-api-key": OTHER},
    {"authorization": f"Bearer {GOOD},Bearer {GOOD}"},
    {"authorization": f"Bearer {GOOD},x"},
    {"authorization": f"Digest x, Bearer {GOOD}"},
    {"authorization": f"Digest x,bearer\t{GOOD}", "x-api-key": GOOD},
    {"x-api-key": f"{GOOD},{GOOD}"},
    {"x-api-key": f"{GOOD}, ,{OTHER}"},
    {"x-api-key": f"{GOOD},x"},
]


@pytest.mark.parametrize(
    "headers",
    [
        *_SEVERAL,
        {"authorization": f"Digest x,basic {GOOD}", "x-api-key": GOOD},
        {"authorization": _basic(f"{GOOD}:{OTHER}")},
        {"cookie": f"sid={GOOD},sid={OTHER}"},
        {"cookie": f"a=1,sid={OTHER}; sid={GOOD}"},
        {"cookie": f"sid={OTHER},b=1; sid={GOOD}"},
        {"cookie": f"a=1, sid = {OTHER} ,b; sid={GOOD}"},
        {"cookie": f"a=1 sid={OTHER}; sid={GOOD}"},
        {"cookie": f'sid={GOOD}; a=1\tsid = "{OTHER}" b=2'},
        {"cookie": f"a sid= sid={OTHER}; sid={GOOD}"},
        {"cookie": f"a=1,b sid={OTHER},c; sid={GOOD}"},
        {"cookie": f"sid=x sid={OTHER}; sid={GOOD}"},
        {"cookie": f"sid={GOOD}; sid={OTHER}", "x-api-key": GOOD},
        {"cookie": f"sid={GOOD}; sid={OTHER}", "authorization": f"Bearer {GOOD}"},
        {"cookie": "; ".join(f"sid={number}" for number in range(5))},
    ],
)
def test_several_are_several(headers: dict[str, str]) -> None:
    """We do not choose one, whatever the upstream would do."""
    assert ALL.find(headers).ambiguous


def test_cookies_of_one_name_are_judged() -> None:
    """A few, if all parsers agree on them: a browser may have an old cookie beside a new one."""
    found = ALL.find({"cookie": f"sid={GOOD}; a=1,2; sid={OTHER}; sid="})
    assert (found.texts, found.ambiguous) == ([GOOD, OTHER], False)
    assert not ALL.find({"cookie": "; ".join(f"sid={number}" for number in range(4))}).ambiguous


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Digest x"},
        {"authorization": 'Digest username="x", realm="y"'},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "bearer ,"},
        {"authorization": "Basic "},
        {"authorization": "Basic Og=="},
        {"x-api-key": ""},
        {"x-api-key": " , "},
        {"cookie": "xsid=1; SID=2; sidx=3"},
        {"cookie": "sid"},
        {"cookie": "sid="},
        {"cookie": 'a=1,sid=""; sid = ;'},
        {"x-auth-key-id": GOOD},
    ],
)
def test_nothing_is_nothing(headers: dict[str, str]) -> None:
    """Other headers are ignored; the cookie's name must match exactly; an empty value is no credential."""
    assert ALL.find(headers) is NOTHING


@pytest.mark.parametrize("user", ["J\xfcrgen".encode("latin-1"), "Jürgen".encode(), b"\xff\xfe", b""])
@pytest.mark.parametrize("end", [b"", b"\n", b" \r\n"])
def test_basic_from_any_client(user: bytes, end: bytes) -> None:
    """The user may be in Latin-1 or UTF-8, and a key that was read from a file may end with a newline."""
    good = GOOD.encode()
    for shown in (user + b":" + good + end, good + end + b":" + user, user + b": " + good + end):
        found = ALL.find({"authorization": f"Basic {b64encode(shown).decode()}"})
        assert (list(found.texts), list(found.headers)) == ([GOOD], ["authorization"])
    hidden = OTHER.encode() + end + b":" + good + end
    assert ALL.find({"authorization": f"Basic {b64encode(hidden).decode()}"}).ambiguous


_LINES = st.lists(
    st.tuples(
        st.sampled_from(["authorization", "x-api-key"]),
        st.lists(
            st.sampled_from(
                [GOOD, OTHER, "x", "Bearer", "bearer ", "Bearer\t", " ", ",", ", ", f"Bearer {GOOD}"]
            ),
            max_size=4,
        ).map("".join),
    ),
    max_size=3,
)


@settings(max_examples=1000)
@given(_LINES)
@example([("authorization", "Bearer"), ("x-api-key", GOOD)])
@example([("x-api-key", ""), ("x-api-key", GOOD)])
@example([("authorization", f"Digest a, Bearer {GOOD}")])
@example([("authorization", f"Bearer\t{GOOD}"), ("x-api-key", OTHER)])
def test_the_python_client_reads_alike(lines: list[tuple[str, str]]) -> None:
    """It reads its two places by the same rules; only the client treats another scheme as an error."""
    joined: dict[str, str] = {}
    for name, value in lines:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    found = CredentialSources(("bearer", "x-api-key")).find(joined)
    outcome = "AMBIGUOUS" if found.ambiguous else found.texts[0] if found.texts else "MISSING"
    try:
        told = presented_in(lines)
    except Refusal as refusal:
        told = read(refusal.trailers)[0].removeprefix("CREDENTIAL_")
    if told == "SCHEME":
        without = {name: value for name, value in joined.items() if name != "authorization"}
        assert found == CredentialSources(("bearer", "x-api-key")).find(without)
    else:
        assert told == outcome


def test_only_what_is_configured_is_looked_at() -> None:
    """An upstream's own bearer token is ignored where bearer is not listed."""
    sources = CredentialSources(("x-api-key",))
    headers = {"authorization": "Bearer theirs", "x-api-key": GOOD, "cookie": f"sid={OTHER}"}
    assert list(sources.find(headers).texts) == [GOOD]
    assert sources.scheme == "ApiKey"
    assert list(CredentialSources(("basic",)).find({"authorization": f"Bearer {GOOD}"}).texts) == []
    assert CredentialSources(("cookie:sid", "basic", "bearer")).scheme == "Basic"


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
        (f"a=1 sid={GOOD}; c=d", "a=1; c=d"),
        (f'a=1 sid = "{GOOD}" b=2; sid={GOOD}; c=d', "a=1 b=2; c=d"),
        (f"a=1 sid=2 b; sid={GOOD}; c=d sid={GOOD}x", f"a=1 sid=2 b; c=d sid={GOOD}x"),
        (f"a sid= sid={GOOD} {GOOD}; c=d", ""),
        ('a=b,;c;;d="e; f"  g', 'a=b,;c;;d="e; f"  g'),
    ],
)
def test_the_cookie_is_taken_out_alone(value: str, rest: str) -> None:
    """Every other cookie is unchanged, byte for byte: a comma does not end a cookie."""
    assert ALL.without_cookie(value) == rest


@given(
    st.lists(st.text(st.characters(exclude_characters=";"), min_size=1, max_size=30), max_size=5), st.data()
)
def test_the_other_cookies_are_not_touched(others: list[str], data: st.DataObject) -> None:
    """Whatever they contain, and wherever ours is among them."""
    others = [text for other in others if "sid" not in other and (text := other.strip())]
    place = data.draw(st.integers(0, len(others)))
    value = "; ".join([*others[:place], f"sid={GOOD}", *others[place:]])
    assert ALL.without_cookie(value) == "; ".join(others)


@given(st.lists(st.sampled_from(["sid", "=", ";", ",", " ", '"', "a", GOOD, f"sid={GOOD}"]), max_size=12))
def test_no_credential_is_left(parts: list[str]) -> None:
    """A credential in the cookies is not found in those that the upstream gets."""
    rest = ALL.without_cookie("".join(parts))
    assert GOOD not in ALL.find({"cookie": rest}).texts


@given(st.lists(st.sampled_from(["sid", "=", ";", ",", " ", "a=1", OTHER, f"sid={OTHER}"]), max_size=12))
@example(["a=1", " ", f"sid={OTHER}", ";"])
def test_nothing_is_judged_beside_what_python_reads(parts: list[str]) -> None:
    """If `http.cookies` would read another of our cookies than the one checked, the upstream gets none."""
    cookie = "".join([*parts, f"; sid={GOOD}"])
    if not ALL.find({"cookie": cookie}).ambiguous:
        seen: SimpleCookie = SimpleCookie()
        with suppress(CookieError):  # then it reads no cookies
            seen.load(ALL.without_cookie(cookie))
        assert "sid" not in seen or seen["sid"].value != OTHER


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_no_header_breaks_it(authorization: str, api_key: str, cookie: str) -> None:
    """For any values, a credential is found or not; no exception is raised."""
    ALL.find({"authorization": authorization, "x-api-key": api_key, "cookie": f"sid={cookie}"})
    ALL.find({"authorization": f"Basic {authorization}"})
    assert "sid=" not in ALL.without_cookie(f"sid={GOOD}; a=b")
