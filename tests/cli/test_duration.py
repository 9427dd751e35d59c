"""Options that are lengths of time: they take what the settings take."""

from datetime import timedelta

import pytest
from cyclopts import CoercionError

from authsvc.cli import app

_OPTIONS = [
    ("bootstrap --ttl", "ttl"),
    ("keys create acme Orders --ttl", "ttl"),
    ("keys revoke key_1 --in", "revoke_in"),
    ("keys rotate key_1 --grace", "grace"),
    ("policies update acme --max-key-lifetime", "max_key_lifetime"),
]


@pytest.mark.parametrize(("command", "name"), _OPTIONS)
def test_an_option_takes_what_a_setting_takes(command: str, name: str) -> None:
    """Units, sums of them, and a number of seconds."""
    for text, length in (
        ("90d", timedelta(days=90)),
        ("1h30m", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("30", timedelta(seconds=30)),
        ("0", timedelta(0)),
    ):
        _, bound, _ = app.parse_args([*command.split(), text])
        assert bound.arguments[name] == length


@pytest.mark.parametrize(("command", "name"), _OPTIONS)
def test_what_is_not_a_length_is_told(command: str, name: str) -> None:
    """By the option, with what to write."""
    with pytest.raises(CoercionError) as refused:
        app.parse_args([*command.split(), "5M"], exit_on_error=False, print_error=False)
    assert str(refused.value) == (
        f'Invalid value for {command.split()[-1]}: unable to convert "5M"; use a number and its unit, for '
        "instance 500ms, 30s, 5m, 12h or 30d; a number without a unit is seconds"
    )
