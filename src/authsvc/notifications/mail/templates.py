"""The templates of mail: those of the package, and those of the operator in their place, file by file.

They are sandboxed. A variable that does not exist is an error, and HTML is escaped. If there are
templates of the operator, all are rendered with samples at the start, so that a broken one is found then.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from authsvc.config.settings import ConfigError
from authsvc.model.notification import NotificationType

SETTING = "AUTHSVC_MAIL_TEMPLATES"
_PACKAGE = "authsvc.notifications.mail"
_SUFFIXES = (".txt", ".html")
#: Of a type of a later version; of several notifications; of `authsvc notifications test`.
OTHER, SEVERAL, TEST = "other", "several", "test"
LAYOUT = "layout"
_NAMES = frozenset(
    f"{name}{suffix}"
    for name in (*(each.value for each in NotificationType), OTHER, SEVERAL, TEST, LAYOUT)
    for suffix in _SUFFIXES
)


class Templates:
    """Renders mail."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read the templates. Raises ConfigError that names a file, a line and the reason."""
        own: list[BaseLoader] = [] if directory is None else [FileSystemLoader(directory)]
        self._directory = directory
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([*own, PackageLoader(_PACKAGE)]),
            autoescape=_is_html,
            undefined=StrictUndefined,
            auto_reload=False,
            keep_trailing_newline=True,
        )
        if directory is not None:
            for path in _files(directory):
                self._parse(path.name)

    @property
    def are_replaced(self) -> bool:
        """Whether some may be those of the operator."""
        return self._directory is not None

    def subject(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the subject of a mail, on one line."""
        return re.sub(r"\s+", " ", self._block(name, "subject", values)).strip()

    def paragraphs(self, name: str, values: Mapping[str, Any]) -> list[str]:
        """Return the paragraphs of the message of a mail, as text."""
        message = self._block(name, "message", values)
        return [text.strip() for text in re.split(r"\n\s*\n", message) if text.strip()]

    def text(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the text of a mail."""
        rendered = self._get(name, ".txt").render(values)
        lines = "\n".join(line.rstrip() for line in rendered.splitlines())
        return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"

    def html(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the HTML of a mail. A name without a file has that of the layout."""
        return self._get(name, ".html").render(values)

    def check(self, render: Callable[[], object]) -> None:
        """Render samples. Raises ConfigError that names a file, a line and the reason."""
        try:
            render()
        except TemplateError as error:
            raise self._wrong(error, *_place(error)) from None
        except Exception as error:
            name, line = _place(error)
            if not name:
                raise
            raise self._wrong(error, name, line) from None

    def _parse(self, name: str) -> None:
        try:
            self._environment.get_template(name)
        except TemplateSyntaxError as error:
            raise self._wrong(error, error.name or name, error.lineno) from None
        except (TemplateError, UnicodeDecodeError, OSError) as error:
            raise self._wrong(error, name, 0) from None

    def _wrong(self, error: Exception, name: str, line: int) -> ConfigError:
        path = name if self._directory is None else self._directory / name
        where = f"{path}, line {line}" if line else f"{path}"
        reason = (getattr(error, "message", None) or str(error) or type(error).__name__).rstrip(".")
        if isinstance(error, TemplateNotFound):
            reason = f"it includes or extends {error.name!r}, which there is not"
        return ConfigError(f"{SETTING}: {where}: {reason}; correct it, or remove the file")

    def _block(self, name: str, block: str, values: Mapping[str, Any]) -> str:
        template = self._get(name, ".txt")
        if block not in template.blocks:
            raise TemplateSyntaxError(f"it has no block {block!r}", 0, f"{name}.txt", template.filename)
        return "".join(template.blocks[block](template.new_context(dict(values))))

    def _get(self, name: str, suffix: str) -> Template:
        fallback = LAYOUT if suffix == ".html" else OTHER
        return self._environment.select_template([f"{name}{suffix}", f"{fallback}{suffix}"])


def _is_html(name: str | None) -> bool:
    return name is None or not name.endswith(".txt")


def _files(directory: Path) -> Iterator[Path]:
    """Yield the templates in a directory; raise ConfigError for one that would never be used."""
    try:
        found = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigError(
            f"{SETTING}: {directory} cannot be read as a directory: {error.strerror or error}"
        ) from None
    for path in found:
        if path.name.startswith(".") or path.suffix not in _SUFFIXES:
            continue
        if path.name not in _NAMES and not path.name.startswith("_"):
            similar = difflib.get_close_matches(path.name, _NAMES, 1, 0.7)
            hint = f"did you mean {similar[0]}?" if similar else "docs/notifications.md lists the names."
            raise ConfigError(
                f"{SETTING}: {path} is not the name of a template; {hint} "
                "Files that templates include begin with _"
            )
        yield path


def _place(error: BaseException) -> tuple[str, int]:
    """Return the name and the line of the template that raised an error; "" if none did."""
    if isinstance(error, TemplateSyntaxError):
        return error.name or "", error.lineno
    place, trace = ("", 0), error.__traceback__
    while trace is not None:
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        if file.endswith(_SUFFIXES):
            template = trace.tb_frame.f_globals.get("__jinja_template__")
            # Without it, jinja2 has put the line of the template into the traceback.
            place = Path(file).name, line if template is None else template.get_corresponding_lineno(line)
        trace = trace.tb_next
    return place
