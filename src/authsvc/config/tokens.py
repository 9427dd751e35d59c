"""Whether the settings of tokens fit together."""

from authsvc.config.settings import PREFIX, ConfigError, Settings


def check_tokens(settings: Settings) -> None:
    """Raise ConfigError when only one of the settings of tokens is there."""
    if (settings.token_keys_file is None) != (not settings.token_issuer):
        missing = "TOKEN_KEYS_FILE" if settings.token_keys_file is None else "TOKEN_ISSUER"
        raise ConfigError(
            f"{PREFIX}{missing}: is missing; {PREFIX}TOKEN_KEYS_FILE and {PREFIX}TOKEN_ISSUER are set "
            "together, or none"
        )
