"""The values of command-line options."""

import re

import pytest

from authsvc.cli.commands import app

DURATIONS = "use a number with a unit, for instance 90d, 12h or 30m"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["keys", "create", "acme", "Orders", "--ttl", "90"],
            f'Invalid value for --ttl: "90" is not valid; {DURATIONS}',
        ),
        (
            ["keys", "revoke", "key_1", "--in", "later"],
            f'Invalid value for --in: "later" is not valid; {DURATIONS}',
        ),
        (
            ["audit", "list", "acme", "--after", "yesterday"],
            'Invalid value for --after: "yesterday" is not valid; use a date or time, for instance '
            "2027-01-31 or 2027-01-31T12:00:00",
        ),
    ],
)
def test_a_bad_value_is_refused_with_an_example(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message names the option and shows values that are accepted."""
    with pytest.raises(SystemExit) as ended:
        app.parse_args(arguments)
    assert ended.value.code == 2
    # Without the box around it, which is as wide as the console was when it was made.
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().err).split())


def test_help_shows_only_defaults_that_inform(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option that is empty or off by default shows no default."""
    monkeypatch.setenv("COLUMNS", "160")
    app.help_print(["keys", "list"])
    shown = capsys.readouterr().out
    assert "[default: 100]" in shown
    assert shown.count("[default:") == 1
