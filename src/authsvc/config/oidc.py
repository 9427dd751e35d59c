"""Whether the settings of the sign-in by OpenID Connect fit together, and the secrets in their files."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from authsvc.config.file import text_of
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import PREFIX, ConfigError, Settings
from authsvc.model.key_string import redact
from authsvc.model.scope import OWN_SCOPES

KEY, CLIENT_SECRET = f"{PREFIX}CONSOLE_OIDC_KEY_FILE", f"{PREFIX}CONSOLE_OIDC_CLIENT_SECRET_FILE"
_GROUP = ("issuer", "client_id", "key_file", "roles")
_MAX_SECRET = 1000


class OidcSecrets(NamedTuple):
    """What the files have. `client_secret` is empty for a public client."""

    key: str
    client_secret: str = ""


def check_oidc(settings: Settings) -> None:
    """Raise ConfigError when settings of the sign-in by OpenID Connect are missing or do not fit together."""
    values = {name: getattr(settings, f"console_oidc_{name}") for name in (*_GROUP, "client_secret_file")}
    if not any(values.values()):
        return
    problems = [
        f"{PREFIX}CONSOLE_OIDC_{name.upper()}: is missing; "
        f"{', '.join(f'{PREFIX}CONSOLE_OIDC_{each.upper()}' for each in _GROUP)} are set together, or none"
        for name in _GROUP
        if not values[name]
    ]
    if not settings.console_url:
        problems.append(
            f"{PREFIX}CONSOLE_URL: is missing; the provider sends browsers back to the console there"
        )
    elif urlsplit(settings.console_url)[2:] not in (("", "", ""), ("/", "", "")):
        problems.append(
            f"{PREFIX}CONSOLE_URL: has a path; with {PREFIX}CONSOLE_OIDC_ISSUER it is the address of the "
            "console, which has none"
        )
    if settings.scopes is not None:
        known = {*OWN_SCOPES, *(scope.name for scope in settings.scopes)}
        given = {scope for scopes in settings.console_oidc_roles.values() for scope in scopes}
        if unknown := sorted(given - known):
            problems.append(
                f"{PREFIX}CONSOLE_OIDC_ROLES: {', '.join(unknown)} not in {PREFIX}SCOPES; add it there, "
                "or remove it here"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def oidc_secrets(settings: Settings) -> ReloadedFiles[OidcSecrets] | None:
    """Return the secrets, reloaded when their files change; None without sign-in by OpenID Connect.

    Raises ConfigError that names setting, file and remedy.
    """
    if settings.console_oidc_key_file is None:
        return None
    if redact(str(settings.console_oidc_key_file)) != str(settings.console_oidc_key_file):
        raise ConfigError(f"{KEY}: is a key; write it into a file, and set the path of that")
    files = {KEY: settings.console_oidc_key_file}
    if settings.console_oidc_client_secret_file is not None:
        files[CLIENT_SECRET] = settings.console_oidc_client_secret_file

    def parse(contents: Contents) -> OidcSecrets:
        return OidcSecrets(*(_secret(setting, files[setting], contents[setting]) for setting in files))

    return ReloadedFiles(files, parse)


def _secret(setting: str, path: Path, content: bytes) -> str:
    try:
        text = text_of(content).strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > _MAX_SECRET or not text.isascii() or not text.isprintable():
        raise ConfigError(
            f"{setting}: {path} does not have one line of 1 to {_MAX_SECRET} characters; write the secret "
            "into it, and nothing else"
        )
    return text
