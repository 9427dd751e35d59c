"""Settings of the sign-in by OpenID Connect: what is refused, and what the message says."""

from pathlib import Path
from typing import Any

import pytest

from authsvc.app import transport
from authsvc.config.oidc import check_oidc, oidc_secrets
from authsvc.config.settings import ConfigError, Settings, load_settings

_ROLES = '{"admins": ["full_access"], "support": ["keys:read", "sessions:read", "keys:read"]}'
_KEY = "authsvc_live_" + "x" * 63


def _group(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    (tmp_path / "key").write_text(f"{_KEY}\n")
    return {
        "console_url": "https://console.example",
        "console_oidc_issuer": "https://idp.example/realms/staff",
        "console_oidc_client_id": "authsvc",
        "console_oidc_key_file": tmp_path / "key",
        "console_oidc_roles": _ROLES,
        **changed,
    }


def _refusal(**given: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        check_oidc(load_settings(**given))
    return str(raised.value)


def test_all_of_the_group(tmp_path: Path) -> None:
    settings = load_settings(**_group(tmp_path))
    check_oidc(settings)
    assert settings.console_oidc_roles == {
        "admins": ("full_access",),
        "support": ("keys:read", "sessions:read"),
    }
    assert settings.console_oidc_scopes == ("openid", "profile", "email")
    assert settings.console_oidc_roles_claim == "groups"
    secrets = oidc_secrets(settings)
    assert secrets is not None
    assert secrets.value == (_KEY, "")


def test_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _group(tmp_path, console_oidc_scopes="openid groups").items():
        monkeypatch.setenv(f"AUTHSVC_{name.upper()}", str(value))
    settings = load_settings()
    check_oidc(settings)
    assert settings.console_oidc_roles["admins"] == ("full_access",)
    assert settings.console_oidc_scopes == ("openid", "groups")


def test_none_of_the_group() -> None:
    check_oidc(load_settings())
    assert oidc_secrets(load_settings()) is None


@pytest.mark.parametrize("name", ["issuer", "client_id", "key_file", "roles"])
def test_one_is_missing(tmp_path: Path, name: str) -> None:
    given = _group(tmp_path)
    del given[f"console_oidc_{name}"]
    told = _refusal(**given)
    assert told.startswith(f"AUTHSVC_CONSOLE_OIDC_{name.upper()}: is missing; ")
    assert "\n" not in told


def test_a_client_secret_alone(tmp_path: Path) -> None:
    told = _refusal(console_oidc_client_secret_file=tmp_path / "secret")
    assert len(told.splitlines()) == 5


def test_it_is_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AUTHSVC_CONSOLE_OIDC_KEY_FILE: is missing"):
        transport(load_settings(**_group(tmp_path, console_oidc_key_file=None)))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("console_url", "", "AUTHSVC_CONSOLE_URL: is missing"),
        ("console_url", "https://console.example/keys", "AUTHSVC_CONSOLE_URL: has a path"),
        ("console_url", "https://console.example?x=1", "AUTHSVC_CONSOLE_URL: has a path"),
        ("console_oidc_issuer", "http://idp.example", "AUTHSVC_CONSOLE_OIDC_ISSUER: use https://"),
        ("console_oidc_issuer", "https://idp.example?x", "AUTHSVC_CONSOLE_OIDC_ISSUER: has a query"),
        ("console_oidc_issuer", f"https://idp.example/{'x' * 240}", "has 260 characters"),
        ("console_oidc_roles", "support", "AUTHSVC_CONSOLE_OIDC_ROLES: is not JSON; use JSON like"),
        ("console_oidc_roles", '["support"]', "is not an object of lists"),
        ("console_oidc_roles", '{"support": "keys:read"}', "is not an object of lists"),
        ("console_oidc_roles", '{"support": []}', "gives the role 'support' 0 scopes"),
        ("console_oidc_roles", '{"support": ["Keys!"]}', "'Keys!' is not a valid scope"),
        ("console_oidc_roles", '{"": ["keys:read"]}', "has a role that is not a text"),
        ("console_oidc_roles", '{"support": ["orders:read"]}', "orders:read not in AUTHSVC_SCOPES"),
        ("console_oidc_scopes", "profile", "AUTHSVC_CONSOLE_OIDC_SCOPES: has no openid"),
        ("console_oidc_scopes", 'openid "x"', "AUTHSVC_CONSOLE_OIDC_SCOPES: has characters"),
        ("console_oidc_name", "x" * 61, "AUTHSVC_CONSOLE_OIDC_NAME: has 61 characters"),
        ("console_oidc_name", "a\u202eb", "AUTHSVC_CONSOLE_OIDC_NAME: holds U+202E"),
    ],
)
def test_values_that_are_wrong(tmp_path: Path, name: str, value: str, told: str) -> None:
    assert told in _refusal(**_group(tmp_path, **{name: value}))


@pytest.mark.parametrize("url", ["http://localhost:9998/", "http://127.0.0.1:9998", "https://idp.example/"])
def test_issuers(tmp_path: Path, url: str) -> None:
    assert load_settings(**_group(tmp_path, console_oidc_issuer=url)).console_oidc_issuer == url


def test_any_scope(tmp_path: Path) -> None:
    check_oidc(load_settings(**_group(tmp_path, scopes="*", console_oidc_roles='{"x": ["orders:read"]}')))


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"\xff", b"k\xc3\xa9y", b"x" * 1001])
def test_files_that_are_no_secret(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    settings = Settings(**_group(tmp_path, console_oidc_client_secret_file=tmp_path / "secret"))
    with pytest.raises(
        ConfigError, match=r"AUTHSVC_CONSOLE_OIDC_CLIENT_SECRET_FILE: .* does not have one line"
    ):
        oidc_secrets(settings)


def test_a_key_in_place_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a key; write it into a file") as raised:
        oidc_secrets(Settings(**_group(tmp_path, console_oidc_key_file=_KEY)))
    assert "xxx" not in str(raised.value)


async def test_secrets_are_reloaded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\ufeffold\r\n")
    secrets = oidc_secrets(Settings(**_group(tmp_path, console_oidc_client_secret_file=tmp_path / "secret")))
    assert secrets is not None
    assert secrets.value == (_KEY, "old")
    (tmp_path / "secret").write_text("new")
    await secrets.look()
    assert secrets.value == (_KEY, "new")
    (tmp_path / "secret").write_text("")
    await secrets.look()
    assert secrets.value == (_KEY, "new")
