"""docs/rules.md: every rule that is cited exists, and every rule has a test that cites it."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

_RULES = "docs/rules.md"
_SOURCE = ("src/**/*.py", "src/**/*.sql", "protos/authsvc/**/*.proto", "tests/**/*.py", "examples/**/*.py")
_DOCUMENTS = ("*.md", "docs/**/*.md", "deploy/**/*")
_RULE = re.compile(r"^(\d+)\. (.+?)(?=^\d+\. |^#|\Z)", re.MULTILINE | re.DOTALL)
_NOT_BUILT = "**Not built yet:**"
_SOURCES = re.compile(r"Medullar|Medallion|EntryGuard|Medusa|all four guides|ours", re.IGNORECASE)
# "rule 16", "rules 2, 4, 7", "rules 20 and 21", "rules 14 to 17"
_CITATION = re.compile(r"\brules?\s+(\d+(?:(?:,\s*|\s+and\s+|\s+or\s+|\s+to\s+)\d+)*)\b", re.IGNORECASE)
# A citation may continue on the next line of a comment.
_LINE_BREAK = re.compile(r"\n[ \t]*(?:#|//|--)?[ \t]*")


def _defined(text: str) -> dict[int, str]:
    return {int(number): rule for number, rule in _RULE.findall(text)}


def _cited(text: str) -> set[int]:
    """Return the numbers of the rules that a text cites."""
    numbers: set[int] = set()
    for listed in _CITATION.findall(_LINE_BREAK.sub(" ", text)):
        for part in re.split(r",|\band\b|\bor\b", listed):
            first, *last = (int(number) for number in re.findall(r"\d+", part))
            numbers.update(range(first, (last or [first])[0] + 1))
    return numbers


def _citations(checkout: Path, *patterns: str) -> dict[int, set[str]]:
    """Return the files that cite each rule, without generated ones and this one."""
    citations = defaultdict(set)
    for file in {file for pattern in patterns for file in checkout.glob(pattern) if file.is_file()}:
        if "_pb2" in file.name or file.suffix == ".pyc" or file == Path(__file__):
            continue
        for number in _cited(file.read_text("utf-8")):
            citations[number].add(str(file.relative_to(checkout)))
    return citations


def test_rules_are_numbered_and_have_a_source(checkout: Path) -> None:
    text = (checkout / _RULES).read_text("utf-8")
    assert [int(number) for number, _ in _RULE.findall(text)] == list(range(1, len(_defined(text)) + 1))
    assert len(_defined(text)) >= 30
    assert [number for number, rule in _defined(text).items() if not _SOURCES.search(rule)] == []


def test_rules_that_are_cited_exist(checkout: Path) -> None:
    citations = _citations(checkout, *_SOURCE, *_DOCUMENTS)
    assert len(citations) >= 29
    defined = _defined((checkout / _RULES).read_text("utf-8"))
    assert {number: sorted(files) for number, files in citations.items() if number not in defined} == {}


def test_rules_have_a_test_that_cites_them(checkout: Path) -> None:
    """Only a rule that is not implemented has none. When it is, its test is added and the remark removed."""
    defined = _defined((checkout / _RULES).read_text("utf-8"))
    built = {number for number, rule in defined.items() if _NOT_BUILT not in rule}
    assert set(_citations(checkout, "tests/**/test_*.py")) == built


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("def test_revoke_is_final() -> None:  # rule 16", {16}),
        ("# R7, rule 17", {17}),
        ("Rules 20 and 21: a wrong secret", {20, 21}),
        ("(rules 2, 4, 7); see also", {2, 4, 7}),
        ("(rules 14 to 17)", {14, 15, 16, 17}),
        ("rules 1, 14 to 16 and 30", {1, 14, 15, 16, 30}),
        ("    # as by rules 24,\n    # 25", {24, 25}),
        ("the 16 rules", set()),
        ("string identifier_rule = 50201", set()),
    ],
)
def test_forms_of_citation(text: str, numbers: set[int]) -> None:
    assert _cited(text) == numbers
