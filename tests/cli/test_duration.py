"""Options that are durations: they take what the settings take, with a unit."""

from datetime import timedelta

import pytest
from cyclopts import CoercionError

from authsvc.cli.commands import app

_OPTIONS = [
    ("bootstrap --ttl", "ttl"),
    ("keys create acme Orders --ttl", "ttl"),
    ("keys revoke key_1 --in", "revoke_in"),
    ("keys rotate key_1 --grace", "grace"),
    ("policies update acme --max-key-lifetime", "max_key_lifetime"),
    ("policies update acme --rotation-period", "rotation_period"),
]


@pytest.mark.parametrize(("command", "name"), _OPTIONS)
def test_an_option_takes_units(command: str, name: str) -> None:
    """One or several; zero needs none."""
    for text, length in (
        ("90d", timedelta(days=90)),
        ("1h30m", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("0", timedelta(0)),
    ):
        _, bound, _ = app.parse_args([*command.split(), text])
        assert bound.arguments[name] == length


@pytest.mark.parametrize(("command", "name"), _OPTIONS)
@pytest.mark.parametrize("text", ["5M", "90", ""])
def test_another_value_is_refused(command: str, name: str, text: str) -> None:
    """The message names the option and shows valid values. A bare number may be meant to be days."""
    with pytest.raises(CoercionError) as refused:
        app.parse_args([*command.split(), text], exit_on_error=False, print_error=False)
    assert str(refused.value) == (
        f'Invalid value for {command.split()[-1]}: "{text}" is not valid; use a number with a unit, for '
        "instance 90d, 12h or 30m"
    )
