"""Settings that are rate limits: `rate/burst`, or 0 for no limit."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from authsvc.model.rate import UNLIMITED, Rate

_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)/(\d{1,6})")


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "0":
        return UNLIMITED
    match = _RATE.fullmatch(value)
    if match is None or float(match[1]) == 0 or int(match[2]) == 0:
        raise ValueError(
            "use rate/burst, for instance 50/200 for 50 per second and 200 at once; or 0 for no limit"
        )
    return Rate(float(match[1]), int(match[2]))


RateLimit = Annotated[Rate, NoDecode, BeforeValidator(_read)]
