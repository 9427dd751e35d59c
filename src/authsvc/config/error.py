"""What is wrong with a setting."""

from authsvc.model.errors import OperatorError


class ConfigError(OperatorError):
    """A setting is unknown or wrong; the message names it and says what to do."""
