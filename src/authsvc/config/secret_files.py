"""Settings that are secrets, from files: `AUTHSVC_KEY_FILE` names a file whose content is `AUTHSVC_KEY`.

Mechanism: a source of pydantic-settings, beside the one of environment variables. Which settings are secrets
follows from their types, so a new one needs nothing here. A file has one line; the end of that line does not
belong to the secret. It is read once, so it can also be a pipe.

Failure: in place of the value, the source returns a `Fault`, which `refuse_fault` turns into the error of
that setting. So it is listed together with the errors of other settings.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import EnvSettingsSource

from authsvc.config.error import ConfigError
from authsvc.config.file import read_file, text_of
from authsvc.config.smtp_url import SmtpServer
from authsvc.model.key_string import redact

SUFFIX = "_FILE"
#: The type of an error whose message names its setting.
NAMED = "secret_file"
_SECRETS = (SecretStr, SecretBytes, SmtpServer)
# A URL, or 32 bytes in base64, as the keys of webhooks are.
_NOT_A_PATH = re.compile(r"\w+://|[A-Za-z0-9+/]{43}=")


class Fault(NamedTuple):
    """Why there is no value."""

    message: str


def is_secret(field: FieldInfo) -> bool:
    """Say whether a setting holds a secret, and so can be in a file."""
    return _holds_secret(field.annotation)


def refuse_fault(value: object) -> object:
    """Return a value of any setting; raise an error of the type `NAMED` for one that was not read."""
    if isinstance(value, Fault):
        raise PydanticCustomError(NAMED, "{message}", {"message": value.message})
    return value


class SecretFiles(EnvSettingsSource):
    """Reads the files that environment variables name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the file of a setting, or None; and the name of the setting."""
        name = f"{self.env_prefix}{field_name}".upper()
        path = self.env_vars.get(f"{name}{SUFFIX}".lower())
        if not path or not is_secret(field):
            return None, field_name, False
        if self.env_vars.get(name.lower()):
            return Fault(f"{name}, {name}{SUFFIX}: both are set; unset one of them"), field_name, False
        try:
            return _read(f"{name}{SUFFIX}", path), field_name, False
        except ConfigError as error:
            return Fault(str(error)), field_name, False

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        """Return the value as it is: the types of settings read texts."""
        return value


def _holds_secret(annotation: Any) -> bool:
    return annotation in _SECRETS or any(map(_holds_secret, get_args(annotation)))


def _read(setting: str, path: str) -> str:
    """Return the secret in a file; raise ConfigError that names the setting and the file."""
    if _NOT_A_PATH.search(path) or redact(path) != path:
        raise ConfigError(f"{setting}: is a secret; write it into a file, and set the path of that")
    try:
        text = text_of(read_file(setting, Path(path)))
    except UnicodeDecodeError:
        raise ConfigError(f"{setting}: {path} is not text in UTF-8; write the secret into it") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ConfigError(f"{setting}: {path} is empty; write the secret into it")
    if len(text.splitlines()) > 1 or not text.isprintable():
        raise ConfigError(
            f"{setting}: {path} does not have one line of text; write the secret into it, and nothing else"
        )
    return text
