"""The setting that says where clients of proxies show their credential."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from authsvc.config.comma_separated import split

_SOURCE = re.compile(r"bearer|basic|x-api-key|cookie:[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = split(value)
    for name in names:
        if _SOURCE.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a source; use bearer, basic, x-api-key or cookie:NAME")
    if not names or sum(name.startswith("cookie:") for name in names) > 1 or len(set(names)) < len(names):
        raise ValueError("name one source or several, each once, and at most one cookie")
    return names


CredentialSourceNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read)]
"""Comma-separated: bearer, basic, x-api-key, cookie:NAME."""
