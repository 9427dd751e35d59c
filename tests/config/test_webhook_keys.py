"""AUTHSVC_WEBHOOK_KEYS: what is accepted, what is refused, what is never shown."""

from base64 import b64encode

import pytest

from authsvc.config.settings import ConfigError, load_settings

ONE, TWO = (b64encode(bytes([number]) * 32).decode() for number in (1, 2))
REMEDY = "make one with `openssl rand -base64 32`"


def keys_of(text: str) -> list[bytes]:
    return [key.get_secret_value() for key in load_settings(webhook_keys=text).webhook_keys]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", []),
        (ONE, [b"\x01" * 32]),
        (f"{ONE},{TWO}", [b"\x01" * 32, b"\x02" * 32]),
        (f" {TWO} ,\n{ONE},", [b"\x02" * 32, b"\x01" * 32]),
    ],
)
def test_keys(text: str, keys: list[bytes]) -> None:
    """The current one first; blanks and line ends around them do not matter."""
    assert keys_of(text) == keys


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hunter2", f"key 1 is not base64; {REMEDY}"),
        (f"{ONE},hunter2?", f"key 2 is not base64; {REMEDY}"),
        (f"{ONE} {TWO}", f"key 1 is not base64; {REMEDY}"),
        (b64encode(b"x" * 16).decode(), f"key 1 has 16 bytes instead of 32; {REMEDY}"),
        (b64encode(b"x" * 33).decode(), f"key 1 has 33 bytes instead of 32; {REMEDY}"),
        ("é" * 44, f"key 1 is not base64; {REMEDY}"),
        (f"{TWO},{ONE},{TWO}", "keys 1 and 3 are the same; remove one of them"),
    ],
)
def test_what_is_no_key(monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    """The error names the setting, the key by its number, and how to make one; it shows no value."""
    monkeypatch.setenv("AUTHSVC_WEBHOOK_KEYS", text)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert str(refused.value) == f"AUTHSVC_WEBHOOK_KEYS: {told}"


def test_settings_do_not_show_keys() -> None:
    """Neither do they in a traceback."""
    settings = load_settings(webhook_keys=f"{ONE},{TWO}")
    assert ONE not in repr(settings)
    assert "x01" not in repr(settings)
