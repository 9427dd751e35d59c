"""TOML files of tables such as `[[caller]]`: checked by a model, with messages that say what to write.

Messages name the setting, the file, the number of the table, the key and the remedy. All problems of a file
are told at once.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from authsvc.config.file import text_of
from authsvc.config.settings import ConfigError
from authsvc.model.text import cleaned

_MAX_LABEL_LENGTH = 512


class TomlTable(BaseModel):
    """The model of a table. The description of a field completes "use …" when a value is missing or wrong.

    Validators raise ValueError with a text that follows the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: A table has keys of exactly one of these groups; and what to say of them besides.
    exactly_one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    exactly_one_hint: ClassVar[str] = ""
    #: The first of these keys that a table has is shown besides its number.
    label_keys: ClassVar[tuple[str, ...]] = ()


M = TypeVar("M", bound=TomlTable)


class TomlTables(Generic[M]):
    """The tables of one name in a file: the valid ones, and what is wrong with the others."""

    def __init__(
        self, setting: str, path: Path, content: bytes, name: str, model: type[M], context: Any
    ) -> None:
        """Read the content of a file; raise ConfigError when it is not TOML. `context` is for validators."""
        self._where = f"{setting}: {path}"
        self._name = name
        self._labels: dict[int, str] = {}
        self._problems: list[tuple[int, str]] = []
        self._tables: list[tuple[int, M]] = []
        document = self._parse(content)
        for key in document:
            if key != name:
                self.refuse(0, f"{key!r} is not known here; write each {name} as a table [[{name}]]")
        tables = document.get(name, [])
        if not isinstance(tables, list):
            self.refuse(0, f"write [[{name}]] with two brackets, since there can be several")
            return
        for number, table in enumerate(tables, 1):
            self._read(number, table, model, context)

    def __iter__(self) -> Iterator[tuple[int, M]]:
        """Iterate over the valid tables, with their numbers, which start at 1."""
        return iter(self._tables)

    def refuse(self, number: int, problem: str) -> None:
        """Note a problem of a table, or of the whole file (0)."""
        self._problems.append((number, problem))

    def check(self) -> None:
        """Raise ConfigError that tells all problems, if there are any."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda problem: problem[0])
            raise ConfigError(
                "\n".join(f"{self._where}: {self._subject(number)}{problem}" for number, problem in ordered)
            )

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            return tomllib.loads(text_of(content))
        except UnicodeDecodeError as error:
            problem = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        except tomllib.TOMLDecodeError as error:
            problem = str(error)
        raise ConfigError(f"{self._where} is not valid TOML: {problem}")

    def _read(self, number: int, table: object, model: type[M], context: Any) -> None:
        if not isinstance(table, dict):
            self.refuse(number, f"is not a table; write [[{self._name}]] and its keys below it")
            return
        self._labels[number] = _label(table, model)
        found: list[str] = []
        groups = model.exactly_one_of
        if groups and sum(any(key in table for key in group) for group in groups) != 1:
            named = ", ".join(" and/or ".join(group) for group in groups)
            found.append(f"give exactly one of {named}{model.exactly_one_hint}")
        try:
            valid = model.model_validate(table, context=context)
        except ValidationError as error:
            found += [_problem(detail, model) for detail in error.errors(include_url=False)]
        # One remedy for a key is enough.
        for problem in dict.fromkeys(found):
            self.refuse(number, problem)
        if not found:
            self._tables.append((number, valid))

    def _subject(self, number: int) -> str:
        return f"{self._name} {number}{self._labels.get(number, '')}: " if number else ""


def _label(table: dict[str, Any], model: type[TomlTable]) -> str:
    text = next((table[key] for key in model.label_keys if key in table), "")
    return f" ({cleaned(text[:_MAX_LABEL_LENGTH])})" if isinstance(text, str) and text else ""


def _problem(detail: ErrorDetails, model: type[TomlTable]) -> str:
    """Return what a validation error means, in terms of the file."""
    key = str(detail["loc"][0])
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if detail["type"] == "extra_forbidden":
        return f"{key!r} is not known; known are {', '.join(fields)}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    return f"{key}: use {fields[key].description}"
