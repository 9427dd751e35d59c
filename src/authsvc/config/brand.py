"""The setting that is the first part of new key strings."""

import re
from typing import Annotated

from pydantic import AfterValidator


def _check(value: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9]{1,9}", value) is None:
        raise ValueError("use 2 to 10 characters of a-z and 0-9, starting with a letter")
    return value


Brand = Annotated[str, AfterValidator(_check)]
