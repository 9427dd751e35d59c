"""Key strings: what is minted, what is recognized, what is redacted in a log."""

import json
import math
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from authsvc.keys.token_keys import TokenKeys, new_token_key
from authsvc.model.key_string import MAX_LENGTH, TAIL_LENGTH, KeyMint, KeyString, redact
from authsvc.model.tag_key import AcceptedTagKeys

BASE62 = string.digits + string.ascii_letters
MINT = KeyMint(b"k" * 32)
KEY = MINT.mint("eg", "live")
FORM = re.compile(r"([a-z][a-z0-9]{1,9}_(?:live|test)_[0-9A-Za-z]{12})([0-9A-Za-z]{43})([0-9A-Za-z]{8})")

# Every code point, lone surrogates and NUL included.
anything = st.text(st.characters())
brands = st.from_regex(r"[a-z][a-z0-9]{1,9}", fullmatch=True)
environments = st.sampled_from(["live", "test"])


@given(brands, environments)
def test_minted_form(brand: str, environment: str) -> None:
    """A key string is brand, environment, 12 public, 43 secret and 8 checking characters of base62."""
    key = MINT.mint(brand, environment)
    parts = FORM.fullmatch(key.text)
    assert parts is not None
    assert parts[1] == key.prefix
    assert parts[2] == key.secret
    assert key.prefix.startswith(f"{brand}_{environment}_")
    assert len(key.text) == len(key.prefix) + TAIL_LENGTH <= MAX_LENGTH


def test_secret_has_room_for_256_bits() -> None:
    """43 characters of base62 hold 256 bits, and 42 would not."""
    assert 42 * math.log2(62) < 256 <= len(KEY.secret) * math.log2(62)


def test_secret_spreads_over_all_256_bits() -> None:
    """As numbers, secrets are below 2^256, and each bit is set in some and clear in others."""
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    numbers = []
    for _ in range(200):
        number = 0
        for character in MINT.mint("eg", "live").secret:
            number = number * 62 + alphabet.index(character)
        numbers.append(number)
    assert 2**255 <= max(numbers) < 2**256
    ones = zeros = 0
    for number in numbers:
        ones |= number
        zeros |= ~number
    assert ones & zeros & (2**256 - 1) == 2**256 - 1


def test_no_two_are_alike() -> None:
    """Neither a prefix nor a secret occurs twice."""
    minted = [MINT.mint("eg", "live") for _ in range(2000)]
    assert len({key.prefix for key in minted}) == len({key.secret for key in minted}) == 2000


@given(brands, environments)
def test_parse_returns_what_was_minted(brand: str, environment: str) -> None:
    """A minted string is parsed into the same parts."""
    key = MINT.mint(brand, environment)
    assert MINT.parse(key.text) == key


def test_workers_with_the_same_tag_key_recognize_each_other() -> None:
    """Two mints need to share only the tag key."""
    assert KeyMint(b"k" * 32).parse(KEY.text) == KEY


def test_another_mint_is_not_recognized() -> None:
    """A string of the right form with a tag of another tag key was not minted here."""
    foreign = KeyMint(b"o" * 32).mint("eg", "live")
    assert FORM.fullmatch(foreign.text)
    assert MINT.parse(foreign.text) is None


def test_several_tag_keys() -> None:
    """Strings under each are recognized; new ones are minted only under the first."""
    old, new = KeyMint(b"o" * 32), KeyMint(b"n" * 32)
    both = KeyMint(b"n" * 32, b"o" * 32)
    for mint in old, new:
        key = mint.mint("eg", "live")
        assert both.parse(key.text) == key
    minted = both.mint("eg", "live").text
    assert new.parse(minted) is not None
    assert old.parse(minted) is None
    assert both.parse(KEY.text) is None


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [("a", "a", False), ("a", "ab", False), ("ab", "ba", False), ("ba", "b", True), ("a", "b", True)],
)
def test_other_tag_keys_from_now_on(before: str, after: str, lost: bool) -> None:
    """Changes of what is minted and accepted take effect at once, and a lost one is reported."""
    mints = {letter: KeyMint(letter.encode() * 32) for letter in "ab"}
    keys = {letter: mint.mint("eg", "live") for letter, mint in mints.items()}
    mint = KeyMint(*(letter.encode() * 32 for letter in before))
    assert mint.use(AcceptedTagKeys(tuple(letter.encode() * 32 for letter in after))) is lost
    assert {letter for letter, key in keys.items() if mint.parse(key.text)} == set(after)
    assert mints[after[0]].parse(mint.mint("eg", "live").text)


@given(anything)
@example("\0")
@example("\ud800" * 80)
@example("٣" * len(KEY.text))
@example("")
def test_parse_refuses_any_text(text: str) -> None:
    """For any text, parse does not raise and returns None."""
    assert MINT.parse(text) is None


@given(st.from_regex(FORM, fullmatch=True))
def test_parse_refuses_the_right_form(text: str) -> None:
    """The form alone is not enough."""
    assert MINT.parse(text) is None


@given(anything.filter(bool), st.integers(0, len(KEY.text)))
@example("\n", len(KEY.text))
@example("\0", len(KEY.text))
@example("\ud800", 0)
def test_parse_refuses_anything_inserted(inserted: str, position: int) -> None:
    """A minted string with more text at its ends or within is not that string."""
    assert MINT.parse(KEY.text[:position] + inserted + KEY.text[position:]) is None


@pytest.mark.parametrize("padding", [" ", "\n", "\r\n", "\t", "\u00a0", "\ufeff"])
def test_parse_does_not_trim(padding: str) -> None:
    """White space around the string is not forgiven."""
    assert MINT.parse(padding + KEY.text) is None
    assert MINT.parse(KEY.text + padding) is None


def test_parse_refuses_what_is_truncated() -> None:
    """No proper beginning or end of a minted string is accepted."""
    for length in range(len(KEY.text)):
        assert MINT.parse(KEY.text[:length]) is None
        assert MINT.parse(KEY.text[len(KEY.text) - length :]) is None


@pytest.mark.parametrize(
    "text", ["a" * 2**20, KEY.text * 15_000, "\ud800" * 2**20], ids=["a", "keys", "halves"]
)
def test_parse_refuses_a_megabyte(text: str) -> None:
    """A very long text is refused like any other."""
    assert MINT.parse(text) is None


def test_parse_refuses_one_changed_character() -> None:
    """At each position, each other character of base62 makes the string unknown."""
    for position, known in enumerate(KEY.text):
        for other in BASE62.replace(known, "") + "_- é\0\ud800":
            if other != known:
                assert MINT.parse(KEY.text[:position] + other + KEY.text[position + 1 :]) is None


def test_parse_refuses_another_brand_or_environment() -> None:
    """The tag covers the prefix too."""
    for text in (
        KEY.text.replace("eg_", "mu_"),
        KEY.text.replace("_live_", "_test_"),
        KEY.text.replace("_live_", "_session_"),
    ):
        assert text != KEY.text
        assert MINT.parse(text) is None


def test_parts_of_two_keys_do_not_mix() -> None:
    """The secret and tag of one key do not match the prefix of another."""
    other = MINT.mint("eg", "live")
    assert MINT.parse(KEY.prefix + other.text[len(other.prefix) :]) is None


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r}".format], ids=["repr", "str", "format", "nested"]
)
def test_shown_without_its_secret(show: "type[str]") -> None:  # rule 1
    """The usual ways to show an object show only the prefix of a key string."""
    for shown in (show(KEY), repr([KEY]), f"{KEY}", f"{KEY!s}"):
        assert KEY.prefix in shown
        assert KEY.secret not in shown
        assert KEY.text[-8:] not in shown


def test_not_in_a_json_log_line() -> None:  # rule 1
    """A key string that is logged as a value does not show its secret once the line is redacted."""
    try:
        line = json.dumps({"event": "minted", "key": KEY}, default=repr)
    except TypeError:
        return
    assert KEY.secret not in redact(line)


@given(anything, anything)
@example("a", "")
@example("authorization: Bearer ", "\n")
@example('{"key":"', '"}')
@example("https://x.example/?key=", "&page=2")
@example(KEY.text, KEY.text)
@example("", "0123456789")
def test_redact_cuts_key_strings_anywhere(before: str, after: str) -> None:  # rule 1
    """Wherever a key string is in a text, its prefix stays and its secret is removed."""
    redacted = redact(before + KEY.text + after)
    assert KEY.secret not in redacted
    assert f"{KEY.prefix}…" in redacted


def test_redact_cuts_every_kind() -> None:  # rule 1
    """Test keys, the longest brand, session tokens and strings of other mints are all redacted."""
    for key in (MINT.mint("abcdefghij", "test"), KeyMint(b"o").mint("mu", "live")):
        assert redact(f"<{key.text}>") == f"<{key.prefix}…>"
    session = f"eg_session_{'a' * 12}{'b' * 51}"
    assert redact(session) == f"eg_session_{'a' * 12}…"


@pytest.mark.parametrize(
    "secret", ["whsec_" + "aB3/" * 10 + "aB3=", "whsec_" + "aB3-" * 10, "whsec_abcdefgh"]
)
def test_redact_cuts_secrets_of_webhooks(secret: str) -> None:
    """Complete or truncated, in either alphabet of base64, and beside key strings."""
    assert redact(f"a {secret}, b {KEY.text}.") == f"a whsec_…, b {KEY.prefix}…."
    assert redact("the secret begins with whsec_ and is long") == "the secret begins with whsec_ and is long"


def test_redact_cuts_tokens() -> None:
    """Those that are derived from keys and sessions, complete or truncated, but no others."""
    token = TokenKeys([OKPKey.import_key(new_token_key())]).sign(b'{"iss":"x"}')
    head = redact(token).removesuffix("…")
    assert token.startswith(head)
    assert (len(head), redact(f"a {token}, b")) == (40, f"a {head}…, b")
    assert redact(token[:60]) == f"{head}…"
    assert redact(f"eyJhbGciOiJIUzI1NiJ9{token[90:]}") == f"eyJhbGciOiJIUzI1NiJ9{token[90:]}"


def test_redact_leaves_the_rest_of_the_text() -> None:
    """The text around and between key strings is kept."""
    other = MINT.mint("mu", "test")
    assert redact(f"a {KEY.text}, b {other.text}.") == f"a {KEY.prefix}…, b {other.prefix}…."


@given(anything)
@example(KEY.prefix)
@example(f"{KEY.prefix}…")
@example(f"{KEY.prefix}...")
@example(f"EG_LIVE_{KEY.text[8:]}")
@example(f"eg_prod_{KEY.text[8:]}")
@example("0" * 100)
def test_redact_leaves_other_text_alone(text: str) -> None:
    """A prefix, a text of another form and arbitrary text are not changed."""
    assert redact(text) == text


def test_redact_cuts_truncated_key_strings() -> None:  # rule 1
    """A truncated key string, as in a truncated log line, does not show the rest of its secret either."""
    for kept in range(8, TAIL_LENGTH):
        truncated = KEY.text[: len(KEY.prefix) + kept]
        assert redact(f"key={truncated} refused") == f"key={KEY.prefix}… refused"


def test_equal_parts_make_equal_key_strings() -> None:
    """A key string is a value."""
    assert KeyString(KEY.prefix, KEY.secret, KEY.text) == KEY
