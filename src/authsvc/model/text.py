"""Text that people read: names, descriptions, reasons, annotations.

A text is stored in Unicode normalization form C, without blanks at its ends (`kept`). These are not allowed
(`fault`):

- More than 30 combining marks in a row, the limit of the Stream-Safe Text Format (UAX #15, section 13),
  because the time for normalization grows with the square of their number.
- Invisible characters, and characters that change the direction of the text around them, because different
  texts would look the same. Joiners, variation selectors, direction marks and the tags of flags are allowed
  where they make a visible difference.

Unassigned code points are allowed, because they may be emoji of a later version of Unicode. Private use
characters are allowed, because they are visible, if only as a box. `cleaned` is for text that is only shown.

Sources: Unicode 17, chapter 23, and UAX #44 (Default_Ignorable_Code_Point, Prepended_Concatenation_Mark);
UTS #51 for emoji, RFC 5892, appendix A, for joiners, chapter 3.12 for the syllables of Hangul.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum
from functools import cached_property


class Form(Enum):
    """The layout of a text: one line, or paragraphs with line feeds (also after CR) and tabs."""

    LINE = "line"
    PARAGRAPHS = "paragraphs"


# Characters that are visible as nothing or as a space: Hangul fillers, Braille without dots, a musical null.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")
_BLANK_SYMBOLS = "\u2800\U0001d159"
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_BLANKS = {
    Form.LINE: "".join([_SPACES, *sorted(_FILLERS), _BLANK_SYMBOLS]),
    Form.PARAGRAPHS: "".join([_SPACES, *sorted(_FILLERS), _BLANK_SYMBOLS, "\t\r\n"]),
}

# A filler stands for a missing part of a syllable: a first consonant, or a vowel.
_FIRST_FILLER, _VOWEL_FILLER = "\u115f", "\u1160"
_FIRSTS = re.compile("[\u1100-\u115e\ua960-\ua97c]")
_VOWELS = re.compile("[\u1161-\u11a7\ud7b0-\ud7c6]")
_LASTS = re.compile("[\u11a8-\u11ff\ud7cb-\ud7fb]")

# How many characters of a combining class other than 0 may follow each other.
_MAX_MARKS = 30

_ZWJ = "\u200d"
_JOINERS = frozenset({"\u200c", _ZWJ})
_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")
_EMBEDDINGS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_AS_EMOJI = "\ufe0f"
_EMOJI_SELECTORS = frozenset({"\ufe0e", _AS_EMOJI})
# Format characters (category Cf) that are visible: signs that enclose the characters after them.
_VISIBLE_FORMATS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
# Ignored by displays, and of another category than Cf.
_IGNORED = re.compile("[\u034f\u17b4\u17b5\u2065\ufff0-\ufff8\U000e0000-\U000e0fff]")
_OTHER_SELECTORS = re.compile("[\ufe00-\ufe0d\U000e0100-\U000e01ef]")
_MONGOLIAN_SELECTORS = frozenset("\u180b\u180c\u180d\u180e\u180f")
_TAGS = re.compile("[\U000e0020-\U000e007f]")
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
# Emoji of another category than So.
_EMOJI_SYMBOLS = frozenset("\u203c\u2049\u2139\u2194\u25fb\u25fc\u25fd\u25fe\u2934\u2935\u3030")
_KEYCAP, _KEYCAP_BASES = "\u20e3", frozenset("0123456789#*")
# The first word of the names of letters that have variants, and the planes of ideographs, known or not.
_VARIED_SCRIPTS = frozenset({"CJK", "EGYPTIAN", "MANICHAEAN", "MYANMAR", "PHAGS-PA"})
_IDEOGRAPHIC_PLANES = range(0x20000, 0x40000)
_EMOJI_PLANE = range(0x1F000, 0x20000)
_SKIN_TONES = range(0x1F3FB, 0x1F400)

# The first words in the names of letters that are written with joiners.
_JOINED_SCRIPTS = re.compile(
    "(?:ADLAM|ARABIC|BALINESE|BENGALI|BHAIKSUKI|BRAHMI|CHAKMA|CHORASMIAN|DEVANAGARI|DOGRA|GRANTHA|"
    "GUJARATI|GUNJALA|GURMUKHI|HANIFI|JAVANESE|KAITHI|KANNADA|KHAROSHTHI|KHMER|KHOJKI|KHUDAWADI|"
    "LEPCHA|MALAYALAM|MANDAIC|MANICHAEAN|MARCHEN|MEETEI|MODI|MONGOLIAN|MYANMAR|NANDINAGARI|NEWA|NKO|"
    "ORIYA|PHAGS-PA|PSALTER|RANJANA|SAURASHTRA|SHARADA|SIDDHAM|SINHALA|SOGDIAN|SUNDANESE|SYRIAC|TAI|"
    "TAKRI|TAMIL|TELUGU|TIBETAN|TIRHUTA) "
)
_VIRAMA = 9


def kept(text: str, form: Form = Form.LINE) -> str:
    """Return a text as it is stored: in normalization form C, without blanks at its ends.

    A filler that is part of a Hangul syllable is not a blank. A text with too many combining marks in a row,
    which `fault` refuses, is not normalized. The time is linear in the length of the text.
    """
    text = _stripped(text, _BLANKS[form])
    return text if text.isascii() or not is_stream_safe(text) else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Return the form in which names are sorted and searched: NFKC, case-folded (Unicode 3.13).

    The text must be short or stream-safe, otherwise this is slow.
    """
    return unicodedata.normalize("NFKC", text).casefold()


def is_stream_safe(text: str) -> bool:
    """Return whether at most 30 combining marks follow each other. Takes linear time."""
    return next(_marks_too_many(text), None) is None


def fault(text: str, form: Form = Form.LINE) -> str:
    """Return which character is not allowed in a text, and why; "" if all are."""
    index = next(faults(text, form), None)
    if index is None:
        return ""
    character = text[index]
    name = unicodedata.name(character, "")
    shown = f"U+{ord(character):04X}" + (f" ({name})" if name else "")
    if _is_mark(character):  # Combining marks are refused for no other reason.
        return f"has more than {_MAX_MARKS} combining marks in a row, up to {shown}; leave some of them out"
    match unicodedata.category(character):
        case "Cc" | "Zl" | "Zp" if form is Form.LINE:
            return f"holds {shown}; use one line, without control characters"
        case "Cc" | "Zl" | "Zp":
            return f"holds {shown}; use no control characters, and plain line feeds between lines"
        case "Cs":
            return f"holds {shown}, which is not a character; leave it out"
    if unicodedata.bidirectional(character) in _EMBEDDINGS:
        return f"holds {shown}, which changes the direction of text; leave it out"
    return f"holds {shown}, which people cannot see there; leave it out"


def cleaned(text: str, form: Form = Form.LINE) -> str:
    """Return a text with each run of characters that are not allowed replaced by a space."""
    wrong = set(faults(text, form))
    if not wrong:
        return text
    return "".join(
        " " if index in wrong else character
        for index, character in enumerate(text)
        if index not in wrong or index - 1 not in wrong
    )


def faults(text: str, form: Form = Form.LINE) -> Iterator[int]:
    """Yield the indexes of the characters that are not allowed in a text."""
    return iter(()) if _is_plain(text) else _Reader(text, form).faults()


class _Reader:
    """Checks each character of a text in its context. Takes linear time."""

    def __init__(self, text: str, form: Form) -> None:
        self._text, self._form = text, form

    def faults(self) -> Iterator[int]:
        """Yield the indexes of the characters that are not allowed."""
        for index, character in enumerate(self._text):
            if " " <= character <= "~":
                continue
            if index in self._marks_too_many or not self._is_allowed(index, character):
                yield index

    def _is_allowed(self, index: int, character: str) -> bool:
        before = self._text[index - 1] if index else ""
        after = self._text[index + 1 : index + 2]
        category = unicodedata.category(character)
        if category == "Cc":
            ends_line = character == "\n" or (character == "\r" and after == "\n")
            return self._form is Form.PARAGRAPHS and (ends_line or character == "\t")
        if category in ("Zl", "Zp", "Cs"):
            return False
        if character in _JOINERS:
            return _joins(character, before, after)
        if character in _DIRECTION_MARKS:
            return self._has_letters_from_right_to_left and before not in _DIRECTION_MARKS
        if character in _FILLERS:
            return _is_hangul(before) or _is_hangul(after)
        if character in _EMOJI_SELECTORS:
            return _is_emoji(before) or (before in _KEYCAP_BASES and after == _KEYCAP)
        if _OTHER_SELECTORS.match(character):
            return _has_variants(before)
        if character in _MONGOLIAN_SELECTORS:
            return _script(before) == "MONGOLIAN" and before not in _MONGOLIAN_SELECTORS
        if _TAGS.match(character):
            return index in self._flag_tags
        if category == "Cf":
            return _VISIBLE_FORMATS.match(character) is not None
        return not (_IGNORED.match(character) or _is_noncharacter(character))

    @cached_property
    def _has_letters_from_right_to_left(self) -> bool:
        return any(
            unicodedata.bidirectional(character) in ("R", "AL")
            for character in self._text
            if character not in _DIRECTION_MARKS
        )

    @cached_property
    def _marks_too_many(self) -> frozenset[int]:
        return frozenset(_marks_too_many(self._text))

    @cached_property
    def _flag_tags(self) -> frozenset[int]:
        return frozenset(place for flag in _FLAG.finditer(self._text) for place in range(*flag.span()))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _stripped(text: str, blanks: str) -> str:
    """Return a text without blanks at its ends. A filler within a Hangul syllable is not a blank."""
    end = len(text.rstrip(blanks))
    start = len(text) - len(text.lstrip(blanks))
    if start >= end:
        return ""
    if _FIRSTS.match(text[end - 1]) and text[end : end + 1] == _VOWEL_FILLER:
        end += 1
    if _LASTS.match(text[start]) and text[:start].endswith(_VOWEL_FILLER):
        start -= 1
        if text[:start].endswith(_FIRST_FILLER):
            start -= 1
    elif _VOWELS.match(text[start]) and text[:start].endswith(_FIRST_FILLER):
        start -= 1
    return text[start:end]


def _marks_too_many(text: str) -> Iterator[int]:
    """Yield the indexes of the combining marks that exceed the maximum in a row.

    Decomposed marks are counted, as in normalization, because one character may contain several.
    """
    if text.isascii():
        return
    row = 0
    for index, character in enumerate(text):
        if character < "\u00a0":
            row = 0
            continue
        for part in unicodedata.normalize("NFKD", character):
            row = row + 1 if unicodedata.combining(part) else 0
        if row > _MAX_MARKS:
            yield index


def _is_mark(character: str) -> bool:
    return all(map(unicodedata.combining, unicodedata.normalize("NFKD", character)))


def _joins(joiner: str, before: str, after: str) -> bool:
    """Return whether a script or an emoji needs a joiner here."""
    if _is_joined(before):
        # At the end of a word, it changes the shape of the last letter.
        shapes_end = joiner == _ZWJ and (
            unicodedata.combining(before) == _VIRAMA or unicodedata.bidirectional(before) == "AL"
        )
        return shapes_end or _is_joined(after)
    is_in_emoji = _is_emoji(before) or before == _AS_EMOJI
    return joiner == _ZWJ and is_in_emoji and _is_emoji(after)


def _is_joined(character: str) -> bool:
    """Return whether this is a letter, or a mark on one, of a script that is written with joiners."""
    return (
        character != ""
        and unicodedata.category(character)[0] in "LM"
        and _JOINED_SCRIPTS.match(unicodedata.name(character, "")) is not None
    )


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0] if character else ""


def _is_hangul(character: str) -> bool:
    if not character or character in _FILLERS:
        return False
    return unicodedata.name(character, "").startswith(("HANGUL", "HALFWIDTH HANGUL"))


def _has_variants(character: str) -> bool:
    """Return whether this is an ideograph, letter or mathematical symbol that may have variants."""
    if not character:
        return False
    if _script(character) in _VARIED_SCRIPTS or ord(character) in _IDEOGRAPHIC_PLANES:
        return True
    category = unicodedata.category(character)
    return category == "Sm" or (category.startswith("P") and character > "\u2000")


def _is_emoji(character: str) -> bool:
    """Return whether this may be an emoji or a skin tone, in this version of Unicode or a later one."""
    if not character:
        return False
    if character in _EMOJI_SYMBOLS or ord(character) in _SKIN_TONES:
        return True
    category = unicodedata.category(character)
    return category == "So" or (category == "Cn" and ord(character) in _EMOJI_PLANE)


def _is_noncharacter(character: str) -> bool:
    return ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
