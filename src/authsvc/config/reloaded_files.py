"""Files that are read at the start and taken anew when they change, unless they are broken.

Mechanism: at each look the files are read, which are small. When what is in them differs from the last time,
they are parsed; what comes out replaces what was before in one assignment. Stamps would miss a second write.

Failure: at the start ConfigError. Later what was read before stays, and the log says once what is wrong.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from authsvc.config.settings import ConfigError

_log = logging.getLogger(__name__)

# No certificate, key or list of callers of ours is near that.
_MAX_BYTES = 8 * 1024 * 1024

T = TypeVar("T")
Contents = Mapping[str, bytes]


class ReloadedFiles(Generic[T]):
    """What is in some files, each known by its setting. `value` is the last that was right."""

    def __init__(self, files: Mapping[str, Path], parse: Callable[[Contents], T]) -> None:
        """Read the files. `parse`, and so this, raises ConfigError that names setting, file and remedy."""
        self._files = dict(files)
        self._parse = parse
        self._contents, self.value = self._read()
        self._refused = ""

    @property
    def is_stale(self) -> bool:
        """Whether there is something newer, which is broken."""
        return bool(self._refused)

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Look after each tick, for ever."""
        while True:
            await tick()
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - a fault here must not end the looking for good
                _log.exception("a fault in looking at files")

    async def look(self) -> None:
        """Take the files anew if they have changed, unless they are broken."""
        try:
            contents = await asyncio.to_thread(self._read_files)
            if contents == self._contents:
                self._refused = ""
                return
            # Half of a rotation is no error when the other half follows at once, so it is read whole.
            contents, value = await asyncio.to_thread(self._read)
        except ConfigError as error:
            if str(error) != self._refused:
                _log.error("%s; until this is mended, what was read before is used", error)
            self._refused = str(error)
            return
        self._contents, self.value, self._refused = contents, value, ""
        _log.info("%s: taken anew", ", ".join(self._files))

    def _read(self) -> tuple[Contents, T]:
        contents = self._read_files()
        return contents, self._parse(contents)

    def _read_files(self) -> Contents:
        return {setting: read_file(setting, path) for setting, path in self._files.items()}


def text_of(content: bytes) -> str:
    """Return what a file says; raise UnicodeDecodeError when it is not UTF-8.

    Editors and shells of Windows put a byte order mark before it, which is no part of it.
    """
    return content.decode("utf-8-sig")


def read_file(setting: str, path: Path) -> bytes:
    """Return what is in a file; raise ConfigError that says what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{setting}: there is no file {path}; check the setting") from None
    except PermissionError:
        raise ConfigError(
            f"{setting}: {path} may not be read; let the user that authsvc runs as read it"
        ) from None
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror or error}") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{setting}: {path} has more than {_MAX_BYTES} bytes; is it the right file?")
    return content
