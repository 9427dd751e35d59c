"""What documents have people paste: files that hold keys are theirs alone, and no process shows a key."""

import re
from pathlib import Path

import pytest

from authsvc.cli import service

_DOCUMENTS = ("README.md", "docs/**/*.md", "deploy/**/*", "examples/**/*", "src/authsvc/cli/*.py")
# A command that answers a key string, or text with one in it, which goes into a file.
_INTO_A_FILE = re.compile(r"(?:authsvc\S* (?:keys (?:create|rotate)|bootstrap)|\.key\))[^`\n]*?> *[\w./-]+")
# A program, not a builtin of the shell, with a secret that the shell puts among its arguments.
_ARGUMENT = re.compile(
    r"(?:curl|grpcurl|psql|authsvc)\b[^\n|;]*(?:-H|-d|--header|--data\S*|-u|--user|-v)[ =]*"
    r"\"(?:\\.|[^\"\\\n])*\$[({]?[\w(]*(?:key|KEY|token|TOKEN|password|PASSWORD|cat )"
)


def _lines(checkout: Path) -> list[str]:
    """Return all lines of all documents, with those that a backslash continues as one."""
    files = {file for pattern in _DOCUMENTS for file in checkout.glob(pattern) if file.is_file()}
    assert len(files) > 20
    texts = [file.read_text("utf-8").replace("\\\n", " ") for file in sorted(files) if file.suffix != ".pyc"]
    return "\n".join([*texts, service._WELCOME]).splitlines()


def test_files_that_hold_keys(checkout: Path) -> None:
    """Are made so that nobody else reads them, not even for a moment."""
    found = [line for line in _lines(checkout) if _INTO_A_FILE.search(line)]
    assert len(found) >= 10
    assert [line for line in found if "umask 077" not in line] == []


def test_no_key_in_a_list_of_processes(checkout: Path) -> None:
    """A secret reaches a program by its environment, its standard input or a file."""
    assert [line for line in _lines(checkout) if _ARGUMENT.search(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        'grpcurl -plaintext -H "authorization: Bearer $(cat .data/admin.key)" 127.0.0.1:50051 list',
        'curl -si -H "authorization: Bearer $key" http://127.0.0.1:8080/',
        r'grpcurl -d "{\"key_string\": \"$(cat x.key)\"}" 127.0.0.1:50051 list',
    ],
)
def test_it_would_be_found(line: str) -> None:
    """The form that documents had before."""
    assert _ARGUMENT.search(line)
