"""What the log says at a start."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr

from authsvc.cli.start_line import start_fields
from authsvc.config.settings import ConfigError, Settings, load_settings
from authsvc.config.smtp_url import SmtpServer

_MARK = "marker-of-a-secret"
_BYTES = b"marker-of-a-secret" + bytes(14)
# A value with the marker for each setting that may hold a secret.
_SECRETS = {
    "database_url": f"postgresql://user:{_MARK}@db1:5432,db2/prod?password={_MARK}",
    "migration_database_url": f"postgresql://owner:{_MARK}@db1/prod",
    "key": _MARK,
    "webhook_keys": b64encode(_BYTES).decode(),
    "smtp_url": f"smtp://user:{_MARK}@mail.example.org:587",
    "mail_from": "authsvc@example.org",
    "secret_scanning_keys": f"https://user:{_MARK}@keys.example.org/",
    "console_url": f"https://user:{_MARK}@console.example.org",
    "console_oidc_issuer": f"https://user:{_MARK}@idp.example.org",
}


def test_secrets_are_left_out() -> None:
    """Of each setting that may hold one, only that it is set, or what is no secret of it."""
    given = {name: value for name, value in _SECRETS.items() if _is_accepted(name, value)}
    settings = load_settings(**given)
    line = json.dumps(start_fields(settings, 50051))
    assert _MARK not in line
    assert _BYTES.decode() not in line
    assert _SECRETS["webhook_keys"] not in line
    assert '"database": "db1:5432,db2/prod"' in line
    assert '"AUTHSVC_WEBHOOK_KEYS": "(set)"' in line
    assert '"AUTHSVC_SMTP_URL": "mail.example.org:587"' in line


def _is_accepted(name: str, value: str) -> bool:
    try:
        load_settings(**{name: value, "mail_from": "a@example.org"})
    except ConfigError:
        return False
    return True


def test_every_setting_of_a_secret_type_has_a_marker() -> None:
    """A new one has to be added above."""
    secret = {
        name
        for name, field in Settings.model_fields.items()
        if any(
            kind in repr(field.annotation)
            for kind in (SecretStr.__name__, SecretBytes.__name__, SmtpServer.__name__)
        )
    }
    assert secret
    assert secret <= _SECRETS.keys()


def test_settings_that_are_not_the_default(tmp_path: Path) -> None:
    """As they are written in the environment; those that are the default are left out."""
    settings = load_settings(
        workers=3,
        lease="20s",
        drain_grace="1m",
        caller_limit="10/20",
        scopes="orders:read=Read orders,orders:write",
        trusted_proxies="10.0.0.0/8",
        reflection=False,
        routes=tmp_path / "routes.toml",
        admin_listen="127.0.0.1:9090",
    )
    fields = start_fields(settings, 1234)
    assert fields["listen"] == "127.0.0.1:1234"
    assert (fields["workers"], fields["lease"], fields["admin_listen"]) == (3, "20s", "127.0.0.1:9090")
    assert fields["settings"] == {
        "AUTHSVC_DRAIN_GRACE": "1m",
        "AUTHSVC_CALLER_LIMIT": "10/20",
        "AUTHSVC_SCOPES": "orders:read,orders:write",
        "AUTHSVC_TRUSTED_PROXIES": "10.0.0.0/8",
        "AUTHSVC_REFLECTION": "off",
        "AUTHSVC_ROUTES": str(tmp_path / "routes.toml"),
    }


@pytest.mark.parametrize("name", ["version", "python"])
def test_versions(name: str) -> None:
    assert start_fields(load_settings(), 1)[name]
