"""The locations of addresses, looked up in MMDB files that the operator provides.

Failure: without a file, or for an address that no file knows, the location is empty.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from authsvc.config.file import fingerprint
from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.model.address import read
from authsvc.model.location import Location
from authsvc.sessions.location_file import SETTING, LocationFile
from authsvc.sessions.location_record import NOWHERE

_log = logging.getLogger(__name__)


class Locations:
    """The locations of addresses, from any number of files; the first file that knows an address is used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the files; raise ConfigError if one cannot be used."""
        self._files: list[ReloadedFiles[LocationFile]] = []
        try:
            for path in paths:
                self._files.append(_reloaded(path))
        except BaseException:
            self.close()
            raise

    def find(self, address: str) -> Location:
        """Return the location of an address, empty when no file knows it, or when it is not an address."""
        if not self._files or (found := read(address)) is None:
            return NOWHERE
        for file in self._files:
            location = file.value.find(found)
            if location != NOWHERE:
                return location
        return NOWHERE

    async def look(self) -> None:
        """Reload the files that have changed; keep the previous ones of those that are broken."""
        for file in tuple(self._files):
            previous = file.value
            try:
                await file.look()
            except Exception:  # noqa: BLE001 - the other files are looked at all the same
                _log.exception("unexpected error in looking at a file of locations")
            if file.value is not previous:
                previous.close()
            if not self._files:
                # Closed in the meantime.
                file.value.close()
                return

    def close(self) -> None:
        """Close the files; from now on nothing is found."""
        for file in self._files:
            file.value.close()
        self._files = []


def _reloaded(path: Path) -> ReloadedFiles[LocationFile]:
    return ReloadedFiles({SETTING: path}, lambda _: LocationFile(path), read=fingerprint, can_keep=_can_keep)


def _can_keep(file: LocationFile) -> bool:
    """Say whether a file can still be read while there is a broken one at its path; close it if not."""
    if file.is_overwritten:
        file.close()
    return not file.is_closed
