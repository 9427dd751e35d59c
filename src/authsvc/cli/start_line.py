"""What the log says at a start: the version, where it serves, and the settings that are not the default.

No secret is in it: of a setting that has one, only that it is set. Of the database, the hosts and the name.
"""

import platform
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretBytes, SecretStr

from authsvc import __version__
from authsvc.config.duration import format_duration
from authsvc.config.settings import Settings
from authsvc.config.smtp_url import SmtpServer
from authsvc.model.rate import Rate
from authsvc.model.scope import Scope
from authsvc.net.listen_address import ListenAddress

_SET = "(set)"
# Shown by themselves, or only used by commands.
_ELSEWHERE = frozenset(
    {"listen", "web_listen", "http_listen", "admin_listen", "workers", "database_url", "lease", "key"}
)


def start_fields(settings: Settings, port: int) -> Mapping[str, object]:
    """Return the fields of the line, with the port that gRPC is served on."""
    fields: dict[str, object] = {
        "version": __version__,
        "python": platform.python_version(),
        "listen": str(settings.listen.with_port(port)),
    }
    for name in ("web_listen", "http_listen", "admin_listen"):
        if (address := getattr(settings, name)) is not None:
            fields[name] = str(address)
    fields |= {
        "workers": settings.workers,
        "database": "" if settings.database_url is None else _database(settings.database_url),
        "lease": format_duration(settings.lease),
        "settings": _changed(settings),
    }
    return fields


def _database(url: SecretStr) -> str:
    """Return the hosts and the name of a database, without a user, a password and options."""
    parts = urlsplit(url.get_secret_value())
    return f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


def _changed(settings: Settings) -> Mapping[str, str]:
    """Return the settings that are not the default, by their names in the environment."""
    changed = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True, validated_data=settings.model_dump())
        if name not in _ELSEWHERE and value not in (default, None):
            changed[f"AUTHSVC_{name.upper()}"] = _shown(value)
    return changed


def _shown(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case timedelta():
            return format_duration(value)
        case Enum():
            return str(value.value)
        case SmtpServer():
            return str(value.address)
        case Scope():
            return value.name
        case Rate() | int() | float() | Path() | ListenAddress():
            return str(value)
        case str():
            # A user and a password may be in any address.
            return _SET if "@" in value and "://" in value else value
        case tuple() | list():
            return ",".join(_shown(each) for each in value) if not _has_secrets(value) else _SET
        case SecretStr() | SecretBytes():
            return _SET
        case _:
            return _other(value)


def _has_secrets(values: Sequence[object]) -> bool:
    return any(isinstance(each, SecretStr | SecretBytes) for each in values)


def _other(value: object) -> str:
    """Return a value of another type if its text has a form that is made for people; otherwise `(set)`."""
    return (
        str(value) if type(value).__str__ is not object.__str__ and not hasattr(value, "password") else _SET
    )
