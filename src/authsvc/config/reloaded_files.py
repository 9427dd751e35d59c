"""Files that are read at the start and reloaded when they change; broken ones are ignored.

Mechanism: each look reads the files, which are small, and compares their content with that of the last time:
timestamps would miss a second write within one tick. Of large files a fingerprint is compared instead. If
there is a difference, the files are parsed, and the result replaces the previous one in one assignment.

Failure: at the start ConfigError. Later the previous value stays in use, and the log says once what is wrong.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from authsvc.config.file import read_file
from authsvc.config.settings import ConfigError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Contents = Mapping[str, bytes]


class ReloadedFiles(Generic[T]):
    """What some files say, each known by its setting. `value` is from their last valid version."""

    def __init__(
        self,
        files: Mapping[str, Path],
        parse: Callable[[Contents], T],
        *,
        read: Callable[[str, Path], bytes] = read_file,
        can_keep: Callable[[T], bool] = lambda _: True,
    ) -> None:
        """Read the files. `parse`, and so this, raises ConfigError that names setting, file and remedy.

        `read` returns what tells a file's versions apart, and is what `parse` gets: the content or, of large
        files, a fingerprint. `can_keep` says whether a value can still be used while newer files are broken.
        """
        self._files = dict(files)
        self._parse = parse
        self._read_one = read
        self._can_keep = can_keep
        self._contents: Contents | None
        self._contents, self.value = self._read()
        self._refused = ""

    @property
    def is_stale(self) -> bool:
        """Whether there are newer files, which are broken."""
        return bool(self._refused)

    async def look(self) -> None:
        """Reload the files if they have changed; keep the previous value if they are broken."""
        try:
            contents = await asyncio.to_thread(self._read_files)
            if contents == self._contents:
                self._refused = ""
                return
            # Half of a rotation is not an error when the other half follows at once, so all files are read.
            contents, value = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._contents, self.value, self._refused = contents, value, ""
        _log.info("reloaded %s", ", ".join(f"{setting} ({path})" for setting, path in self._files.items()))

    def _refuse(self, problem: str) -> None:
        if self._can_keep(self.value):
            meanwhile = "the previous version is used"
        else:
            # Also when the same version comes back.
            self._contents, meanwhile = None, "nothing in it is used"
        if problem != self._refused:
            _log.error("%s; until this is corrected, %s", problem, meanwhile)
        self._refused = problem

    def _read(self) -> tuple[Contents, T]:
        contents = self._read_files()
        return contents, self._parse(contents)

    def _read_files(self) -> Contents:
        return {setting: self._read_one(setting, path) for setting, path in self._files.items()}
