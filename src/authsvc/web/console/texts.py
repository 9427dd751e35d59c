"""The texts of the pages, from one catalogue: `texts.toml`.

A text may have `{names}` of values. It is plain text: markup in it is escaped, and so are the values, unless
they are markup of ours.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

_FILE = "texts.toml"


class Texts:
    """The texts, by the names of their table and their own: `keys.title`."""

    def __init__(self, source: str | None = None) -> None:
        """Read a catalogue; without a `source`, that of the package."""
        if source is None:
            source = files(__package__).joinpath(_FILE).read_text("utf-8")
        self._texts = {name: escape(text) for name, text in _flat(tomllib.loads(source))}

    def __call__(self, name: str, /, **values: Any) -> Markup:
        """Return a text. Raises KeyError for one that there is not, or a value that is missing."""
        text = self._texts[name]
        return text.format(**values) if values else text

    def __contains__(self, name: str) -> bool:
        """Return whether there is a text of this name."""
        return name in self._texts

    def count(self, name: str, number: int, /, **values: Any) -> Markup:
        """Return a text about a number: `name.one` or `name.other`, with `{number}`."""
        return self(f"{name}.{'one' if number == 1 else 'other'}", number=number, **values)

    @property
    def names(self) -> frozenset[str]:
        """The names of all texts."""
        return frozenset(self._texts)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)
