"""Which characters a text for people may contain."""

# ruff: noqa: RUF001 - this is about letters of other scripts

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich._emoji_codes import EMOJI

from authsvc.model.text import Form, cleaned, fault, faults, is_stream_safe, kept

# Random draws from whole planes are rarely relevant; the rules are about these.
SPECIAL = (
    "\u0009\u000a\u000d\u0085\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029"
    "\u202a\u202e\u2060\u2066\u2069\u2800\u3000\u3164\ufe00\ufe0e\ufe0f\ufeff\uffa0\ufff9\ufffe\ud800"
    "\U000e0001\U000e0067\U000e007f\U000e0100\U0001f3f4\U0001f600\U0001f3fdaA1#\u20e3\u05d0\u0645\u0915\u094d\u6771\u1820\u1100"
)
TEXTS = st.text(st.sampled_from(SPECIAL) | st.characters(), max_size=12)
FORMS = st.sampled_from(Form)


@pytest.mark.parametrize(
    "text",
    [
        "Orders ✓",
        "Zoë's key (2026)",
        "東京\u3000駅",
        "100\u00a0€",
        "می\u200cخواهم",  # Persian: a prefix that is not joined
        "क्\u200dष",  # Hindi: a half form
        "കാര്\u200d",  # Malayalam as written before Unicode 5.1: at the end of a word
        "ه\u200d.ش",  # Persian: the connecting form
        "\u200fשלום!\u200f",
        "قيمة \u061c-5",
        "\u0600\u0661",  # Arabic: a sign under a number, which is visible
        "葛\U000e0100城",  # the name of a city, with a variant
        "\U00031350\U000e0101",  # an ideograph of Unicode 15
        "∩\ufe00 、\ufe00 \u1075\ufe00",
        "ᠮᠣᠩᠭᠣᠯ\u180e\u1820",
        "한글 \u1100\u1160",
        "⠓⠑⠇⠇⠕\u2800⠺⠕⠗⠇⠙",
        "👨\u200d👩\u200d👧\u200d👦 family",
        "1\ufe0f\u20e3",
        "❤\ufe0f\u200d🔥",
        "🙂\u200d↔\ufe0f",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001fae9 \U0001faea \U0001fbff\U0001f3fd",  # emoji of 2024, of 2025, and a future one
        "\U0001faea\u200d\U0001fae9",
        "\ue000 of our own font",
    ],
    ids=ascii,
)
def test_what_people_write_is_taken(text: str) -> None:
    """Spaces of all widths, joiners, marks and selectors where they belong, emoji newer than this Python."""
    assert fault(text) == ""
    assert fault(text, Form.PARAGRAPHS) == ""
    assert cleaned(text) == text


def test_every_emoji_is_taken() -> None:
    """With their selectors, joiners, skin tones and flags: 3600 of them."""
    assert [name for name, emoji in EMOJI.items() if fault(emoji)] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\u202eb", "U+202E (RIGHT-TO-LEFT OVERRIDE), which changes the direction"),
        ("a\u2067b\u2069", "U+2067 (RIGHT-TO-LEFT ISOLATE), which changes the direction"),
        ("a\u2028b", "U+2028 (LINE SEPARATOR); use one line"),
        ("a\u2029b", "U+2029 (PARAGRAPH SEPARATOR); use one line"),
        ("a\u200bb", "U+200B (ZERO WIDTH SPACE), which people cannot see"),
        ("a\nb", "U+000A; use one line"),
        ("a\x1b[2J", "U+001B; use one line"),
        ("a\x9b2J", "U+009B; use one line"),
        ("a\0", "U+0000; use one line"),
        ("a\u00adb", "U+00AD (SOFT HYPHEN), which people cannot see"),
        ("\ufeffa", "U+FEFF (ZERO WIDTH NO-BREAK SPACE), which people cannot see"),
        ("ad\u200cmin", "U+200C"),
        ("ad\u200dmin", "U+200D"),
        ("م\u200c\u200cم", "U+200C"),
        ("م\u200c", "U+200C"),
        ("admin\u200e", "U+200E"),
        ("א\u200e\u200e", "U+200E"),
        ("admin\ufe0f", "U+FE0F"),
        ("1\ufe0f", "U+FE0F"),
        ("a\ufe00", "U+FE00"),
        ("a\U000e0100", "U+E0100"),
        ("\u05d0\ufe00", "U+FE00"),
        ("\uff71\uffa0\uff71", "U+FFA0"),
        ("❤\ufe0f\ufe0f", "U+FE0F"),
        ("a\u180b", "U+180B"),
        ("ad\u3164min", "U+3164 (HANGUL FILLER)"),
        ("a\u034fb", "U+034F"),
        ("a\U000e0061", "U+E0061 (TAG LATIN SMALL LETTER A)"),
        ("🏴\U000e0067", "U+E0067"),
        ("a\ufffe", "U+FFFE"),
        ("a\ud800", "U+D800, which is not a character"),
        ("a\U000e0fff", "U+E0FFF"),
        (
            "a" + "\u0301\u0323" * 16,
            "more than 30 combining marks in a row, up to U+0301 (COMBINING ACUTE ACCENT)",
        ),
    ],
    ids=ascii,
)
def test_what_people_cannot_see_is_refused(text: str, problem: str) -> None:
    """The character is named, with the remedy."""
    assert problem in fault(text)


def test_paragraphs_have_lines_and_tabs() -> None:
    """And no other control characters, nor the separators of Unicode, nor a CR that overwrites a line."""
    assert fault("one\n\ttwo\r\nthree", Form.PARAGRAPHS) == ""
    for text in ("a\rb", "a\x0bb", "a\u2028b", "a\u2029b", "a\x85b", "a\x1bb"):
        assert "use no control characters" in fault(text, Form.PARAGRAPHS)


@pytest.mark.parametrize(
    "blank",
    ["\u3164", "\u2800", "\uffa0", "\u115f", "\u1160", "\u3000", "\u00a0", " \u2003\u2800 ", ""],
    ids=ascii,
)
def test_blanks_are_nothing(blank: str) -> None:
    """Those of Unicode, and letters that look like one; at both ends they are removed."""
    assert kept(blank) == ""
    assert kept(f"{blank}a b{blank}") == "a b"


@pytest.mark.parametrize(
    "syllable",
    ["\u115f\u1161", "\u115f\u1161\u11a8", "\u1100\u1160", "\u1160\u11a8", "\u115f\u1160\u11a8"],
    ids=ascii,
)
def test_a_filler_in_a_syllable_is_no_blank(syllable: str) -> None:
    """It stands for the missing consonant or vowel; others around it are removed."""
    assert kept(syllable) == syllable
    assert kept(f" \u3164{syllable}\uffa0 ") == syllable


@pytest.mark.parametrize(
    ("first", "marks"),
    [
        ("a", "\u0301\u0323" * 15 + "\u0301"),
        ("", "\u0323" * 31),
        ("a", "\u0344" * 15 + "\u0323"),  # each is two
        ("a", "\u0f73" * 15 + "\u0f71"),  # of class 0, and two that are not
        ("\u1e69", "\u0323\u0301" * 14 + "\u0323"),  # has two already
        ("\u30ab", "\uff9e" * 31),  # a mark in NFKC alone
    ],
    ids=ascii,
)
def test_a_text_with_too_many_marks_in_a_row_is_not_normalized(first: str, marks: str) -> None:
    """It is refused instead, since normalization would sort the marks, one by one."""
    assert fault(first + marks[:-1]) == ""
    for text in (first + marks, f"x{first}{marks}x", first + marks * 1000):
        assert kept(text) == text
        assert "more than 30 combining marks" in fault(text)
        assert is_stream_safe(cleaned(text))


def test_no_mark_is_refused_for_another_reason() -> None:
    """So that the error message is right."""
    characters = map(chr, range(0x110000))
    assert [text for text in characters if unicodedata.combining(text) and fault(f"a{text}")] == []


def test_texts_are_kept_in_one_form() -> None:
    """That of composed characters; line breaks become spaces unless a text may have lines."""
    assert kept(" Zoe\u0308 ") == "Zoë"
    assert kept("a\n") == "a\n"
    assert kept("\n a\nb \t\r\n", Form.PARAGRAPHS) == "a\nb"


@given(TEXTS, FORMS)
def test_what_is_kept_stays_as_it_is(text: str, form: Form) -> None:
    """Storing a text again changes nothing, and makes no valid text invalid."""
    once = kept(text, form)
    assert kept(once, form) == once
    assert unicodedata.is_normalized("NFC", once)
    if not fault(text, form):
        assert not fault(once, form)


@given(TEXTS, FORMS)
def test_what_is_taken_hides_nothing(text: str, form: Form) -> None:
    """By the tables of Unicode: no controls, no separators, no embeddings, no marks beside letters."""
    if fault(text, form):
        return
    categories = {unicodedata.category(character) for character in text}
    assert categories.isdisjoint({"Zl", "Zp", "Cs"})
    assert "Cc" not in categories or (form is Form.PARAGRAPHS and set(text) & set("\t\r\n"))
    assert {unicodedata.bidirectional(character) for character in text}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )


@given(TEXTS, FORMS)
def test_what_was_cleaned_is_fit_to_be_shown(text: str, form: Form) -> None:
    """Whatever the text was, it can be sent; a valid text is unchanged."""
    shown = cleaned(text, form)
    assert list(faults(shown, form)) == []
    assert (shown == text) == (not fault(text, form))
    shown.encode()


@pytest.mark.slow
@settings(max_examples=25)
@given(st.text(st.sampled_from("\u200e\u05d0\U000e0067\U0001f3f4"), min_size=1, max_size=4))
def test_long_texts_take_no_longer_for_each_character(piece: str) -> None:
    """A text that is far too long is checked in one step."""
    assert len(cleaned(piece * 20_000)) <= len(piece) * 20_000
