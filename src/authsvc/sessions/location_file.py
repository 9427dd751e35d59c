"""An MMDB file of locations, mapped into memory.

All workers share what the system keeps of the file in memory, and a look-up touches a few pages. When another
file takes its path (written beside it, then renamed), the mapping still shows the old one.

Failure: a file must not be overwritten in place, since reading a mapping whose file was cut short ends the
process. So each look-up first checks whether that has happened, and then finds nothing. A write during the
look-up itself, which takes microseconds, or during the opening, which takes milliseconds, is not noticed.
"""

import logging
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import maxminddb

from authsvc.config.file import FileStamp, translate_errors
from authsvc.config.settings import ConfigError
from authsvc.model.location import Location
from authsvc.sessions.location_record import NOWHERE, has_location, read_location

SETTING = "AUTHSVC_GEOIP_DB"

_log = logging.getLogger(__name__)

# A file without a location in its first networks is of another kind.
_MAX_NETWORKS_CHECKED = 1000


class LocationFile:
    """A file that was opened and has locations."""

    def __init__(self, path: Path) -> None:
        """Open the file; raise ConfigError that names it and the remedy."""
        self._path = path
        self._is_closed = False
        # A damaged record is logged once.
        self._is_damaged = False
        with translate_errors(SETTING, path):
            # Before the opening: a file that comes in between has another stamp.
            self._stamp = FileStamp.of(path)
            # For an error of the system; the reader has its own.
            with path.open("rb"):
                pass
            try:
                self._reader = maxminddb.open_database(path)
            except OSError:
                raise
            except Exception:  # noqa: BLE001 - what a reader raises for arbitrary bytes is not specified
                raise ConfigError(
                    f"{SETTING}: {path} is not a complete MMDB file; "
                    "download it again, and unpack it if it is packed"
                ) from None
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        try:
            metadata = self._reader.metadata()
            self._has_ipv6 = metadata.ip_version == 6
            found = self._has_locations()
        except Exception:  # noqa: BLE001 - as above
            raise ConfigError(f"{SETTING}: {self._path} is a damaged MMDB file; download it again") from None
        if not found:
            raise ConfigError(
                f"{SETTING}: {self._path} is an MMDB file of type {metadata.database_type!r}, "
                "which has no locations; use one of cities or countries, such as GeoLite2-City or dbip-city"
            )

    def _has_locations(self) -> bool:
        """Walk from network to network until one has a location.

        By look-ups, and not by the iterator of maxminddb, which writes beyond its memory when a file is
        damaged (3.2.0).
        """
        form, bits = (IPv6Address, 128) if self._has_ipv6 else (IPv4Address, 32)
        address = 0
        for _ in range(_MAX_NETWORKS_CHECKED):
            record, prefix = self._reader.get_with_prefix_len(form(address))
            if has_location(record):
                return True
            size = 1 << bits - prefix
            address = (address // size + 1) * size
            if address >> bits:
                break
        return False

    def find(self, address: IPv4Address | IPv6Address) -> Location:
        """Return the location of an address, empty if there is none; never raises."""
        if self._is_closed or self.is_overwritten or (address.version == 6 and not self._has_ipv6):
            return NOWHERE
        try:
            return read_location(self._reader.get(address))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, a session can be shown
            if not self._is_damaged:
                _log.error("%s: %s is damaged; download it again: %s", SETTING, self._path, error)
            self._is_damaged = True
            return NOWHERE

    @property
    def is_overwritten(self) -> bool:
        """Whether the file that is mapped was written to, so that it must not be read any more."""
        try:
            return FileStamp.of(self._path).overwrites(self._stamp)
        except OSError:
            # Its name is gone; the file is not.
            return False

    @property
    def is_closed(self) -> bool:
        """Whether nothing is found in it any more."""
        return self._is_closed

    def close(self) -> None:
        """Close the file; from now on nothing is found in it."""
        if not self._is_closed:
            self._reader.close()
        self._is_closed = True
