"""How commands end."""

import sys
from types import SimpleNamespace

import pytest

from authsvc.cli import commands


def test_who_reads_no_further(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`authsvc audit list acme --json | head -1` ends silently when `head` ends."""

    async def list_() -> None:
        raise BrokenPipeError

    given = SimpleNamespace(args=(), kwargs={})
    monkeypatch.setattr(commands, "app", SimpleNamespace(parse_args=lambda: (list_, given, None)))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # restored at the end
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 1
    # Nothing remains to be written at exit.
    assert sys.stdout is None
    assert capsys.readouterr().err == ""
