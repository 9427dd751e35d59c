"""Options that are lengths of time, in the form of the settings: `--ttl 90d`, `--grace 24h`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from cyclopts import CoercionError, Parameter, Token

from authsvc.config.duration import parse_duration


def _convert(_: Any, tokens: Sequence[Token]) -> timedelta:
    try:
        return parse_duration(tokens[0].value)
    except ValueError as error:
        raise CoercionError(
            msg=f'unable to convert "{tokens[0].value}"; {error}', token=tokens[0], target_type=timedelta
        ) from None


Duration = Annotated[timedelta | None, Parameter(converter=_convert)]
