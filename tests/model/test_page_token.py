"""Page tokens: valid for one query, and refused in one way."""

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from authsvc.model.errors import InvalidArgument
from authsvc.model.key import KeyState
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.model.page_token import PageTokens, Position
from authsvc.model.tag_key import AcceptedTagKeys
from tests.model.samples import HOUR, NOW, TICK

TOKENS = PageTokens(b"k" * 32)
FILTER = KeyFilter(
    states=(KeyState.ACTIVE,),
    query="ord",
    creator_id="key_0",
    scope="orders:read",
    create_time_after=NOW - HOUR,
    create_time_before=NOW,
    expire_time_before=NOW + HOUR,
    unused_since=NOW,
)
QUERY = KeyQuery("acme", FILTER, KeyOrder("create_time", descending=True))
POSITION = Position(NOW, "key_01jd3v5q8m0k2n4p6r8s0t2v4w")
TOKEN = TOKENS.seal(QUERY, POSITION)

anything = st.text(st.characters())
positions = st.builds(
    Position, st.none() | anything | st.datetimes(timezones=st.just(UTC)), st.text(string.ascii_lowercase)
)


def refused(token: str, query: KeyQuery = QUERY, tokens: PageTokens = TOKENS) -> bool:
    """Return whether the token is refused; other errors are raised."""
    try:
        tokens.open(query, token)
    except InvalidArgument as error:
        return [(v.field, v.rule) for v in error.violations] == [("page_token", "page_token.query")]
    return False


@given(positions, anything)
def test_round_trip(position: Position, text: str) -> None:  # rule 10
    """Any position of any query is restored: text, time or never."""
    query = replace(QUERY, filter=replace(FILTER, query=text))
    assert TOKENS.open(query, TOKENS.seal(query, position)) == position


def test_workers_share_tokens() -> None:
    """Another worker with the same key opens the token; with another key it does not."""
    assert PageTokens(b"k" * 32).open(QUERY, TOKEN) == POSITION
    assert refused(TOKEN, tokens=PageTokens(b"o" * 32))


def test_tokens_outlive_a_rotation_of_the_tag_key() -> None:
    """They are valid as long as their tag key is accepted, and then refused like any other invalid text."""
    tokens = PageTokens(b"k" * 32)
    tokens.use(AcceptedTagKeys((b"n" * 32, b"k" * 32)))
    assert tokens.open(QUERY, TOKEN) == POSITION
    sealed = tokens.seal(QUERY, POSITION)
    assert refused(sealed)
    tokens.use(AcceptedTagKeys((b"n" * 32,)))
    assert tokens.open(QUERY, sealed) == POSITION
    assert refused(TOKEN, tokens=tokens)


def test_token_goes_into_a_url() -> None:
    """A token needs no escaping."""
    assert set(TOKEN) <= set(string.ascii_letters + string.digits + "-_")


@pytest.mark.parametrize(
    "other",
    [
        replace(QUERY, owner_id="globex"),
        replace(QUERY, order=KeyOrder("create_time", descending=False)),
        replace(QUERY, order=KeyOrder("expire_time", descending=True)),
        *(
            replace(QUERY, filter=replace(FILTER, **changed))
            for changed in (
                {"states": ()},
                {"states": (KeyState.REVOKED,)},
                {"states": (KeyState.ACTIVE, KeyState.REVOKED)},
                {"query": "orde"},
                {"query": ""},
                {"creator_id": "key_9"},
                {"scope": "orders:write"},
                {"create_time_after": None},
                {"create_time_after": NOW - HOUR - TICK},
                {"create_time_before": NOW + TICK},
                {"expire_time_before": None},
                {"unused_since": NOW - TICK},
            )
        ),
        replace(QUERY, filter=replace(FILTER, creator_id="orders:read", scope="key_0")),
    ],
    ids=repr,
)
def test_another_query_is_refused(other: KeyQuery) -> None:  # rule 10
    """A token of another owner, order or filter, however similar, is refused."""
    assert refused(TOKEN, other)
    assert not refused(TOKENS.seal(other, POSITION), other)


def test_one_owner_cannot_pose_as_another() -> None:
    """Text that looks like the end of a field and the start of the next does not make two queries alike."""
    plain = KeyQuery("acme", KeyFilter(query="a", creator_id="b"), KeyOrder())
    crafted = KeyQuery("acme", KeyFilter(query="a', creator_id='b"), KeyOrder())
    assert refused(TOKENS.seal(plain, POSITION), crafted)


@given(st.integers(0, len(urlsafe_b64decode(TOKEN + "==")) - 1), st.integers(1, 255))
def test_altered_content_is_refused(position: int, difference: int) -> None:
    """Changing a byte of a token makes it invalid."""
    content = bytearray(urlsafe_b64decode(TOKEN + "=="))
    content[position] ^= difference
    assert refused(urlsafe_b64encode(content).rstrip(b"=").decode())


@given(st.integers(0, len(TOKEN) - 1))
def test_truncated_token_is_refused(length: int) -> None:
    """No proper beginning or end of a token is a token."""
    assert refused(TOKEN[:length])
    assert refused(TOKEN[len(TOKEN) - length :])


def test_altered_spelling_is_refused() -> None:
    """Changing or adding a character makes a token invalid."""
    token = TOKENS.seal(QUERY, Position(None, "key_1"))
    accepted = [
        altered
        for position in range(len(token))
        for other in "AQgw-_+/=!\n"
        for altered in (
            token[:position] + other + token[position + 1 :],
            token[:position] + other * 4 + token[position:],
        )
        if altered != token and not refused(altered)
    ]
    assert accepted == []


@given(anything)
@example("A")
@example("=")
@example("====")
@example("!")
@example("é")
@example("\0")
@example("\ud800")
@example("A" * 4096)
def test_rubbish_is_refused(token: str) -> None:
    """Arbitrary text is refused, and nothing but InvalidArgument is raised."""
    assert refused(token)


@given(st.binary())
def test_rubbish_in_base64_is_refused(content: bytes) -> None:
    """Arbitrary content is refused before it is read."""
    token = urlsafe_b64encode(content).rstrip(b"=").decode()
    assume(token != TOKEN)
    assert refused(token)


def test_the_longest_token_is_accepted_back() -> None:  # rule 10
    """The token of a page that ends with a name of 255 emoji is within the limit of a request."""
    query = KeyQuery("o" * 128, KeyFilter(), KeyOrder("display_name", descending=False))
    assert len(TOKENS.seal(query, Position("\U0001f511" * 255, "key_" + "0" * 26))) <= 4096
