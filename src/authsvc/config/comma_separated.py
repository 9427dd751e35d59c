"""Settings that are comma-separated lists."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def split(text: str) -> tuple[str, ...]:
    """Return the items of a list; spaces around them and empty items are ignored."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _read_paths(value: object) -> object:
    return tuple(map(Path, split(value))) if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_read_paths)]
