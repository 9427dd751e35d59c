"""Where an address is, looked up in MMDB files that the operator provides.

Mechanism: the files are mapped, so that all workers share what the system keeps of
them in memory, and a look-up touches a few pages. A file that is replaced by another
(written beside it, then renamed) is taken at the next look; until then, and when the
new one is broken, the old one goes on being read: its mapping outlives its name.

Failure: without a file, or for an address that no file knows, the place is empty, and
nothing else suffers. A file must not be overwritten in place: what is read of a mapping
whose file was cut short meanwhile ends the process. So each look-up first sees whether
that has happened, and leaves such a file alone until it is whole again; what is left
to chance is the reading itself, microseconds, and milliseconds when a file is taken anew.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

import maxminddb

from authsvc.model.address import read
from authsvc.model.location import Location
from authsvc.model.text import cleaned

_log = logging.getLogger(__name__)

NOWHERE = Location()

# What a record of places has at least one of; MaxMind's nested form, and the flat one of DB-IP and others.
_FIELDS = frozenset({"city", "country", "registered_country", "country_code", "state1", "subdivisions"})
# So many networks are looked at before a file is said to have no places.
_SAMPLE = 1000


class LocationError(Exception):
    """A file of places cannot be used; the message names it and says what to do."""


class _Stamp(NamedTuple):
    """What tells a file from the one that takes its place."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    def overwrites(self, other: "_Stamp") -> bool:
        """Say whether this is the same file as `other` with something else in it."""
        return self != other and self[:2] == other[:2]


class _Database:
    """An MMDB file that was opened and found to be of use."""

    def __init__(self, path: Path) -> None:
        # Before the opening: a file that comes in between is noticed at the next look.
        self.stamp = _stamp(path)
        try:
            # A word from the system about what it does not let us read.
            with path.open("rb"):
                pass
            self._reader = maxminddb.open_database(path)
        except PermissionError:
            raise LocationError(
                f"{path}: may not be read; let the user that authsvc runs as read it"
            ) from None
        except OSError as error:
            raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from None
        except Exception:  # noqa: BLE001 - what a reader makes of rubbish is its own affair
            raise LocationError(
                f"{path}: is no MMDB file, or not a whole one; fetch it anew, and unpack it if it is packed"
            ) from None
        try:
            self._check(path)
        except BaseException:
            self._reader.close()
            raise

    def _check(self, path: Path) -> None:
        try:
            metadata = self._reader.metadata()
            self._has_ipv6 = metadata.ip_version == 6
            found = self._has_places()
        except Exception:  # noqa: BLE001 - as above
            raise LocationError(f"{path}: is a damaged MMDB file; fetch it anew") from None
        if not found:
            raise LocationError(
                f"{path}: is an MMDB file of type {metadata.database_type!r} that has no places; "
                "take one of cities or countries, such as GeoLite2-City or dbip-city"
            )

    def _has_places(self) -> bool:
        """Walk from network to network until one has a place.

        By look-ups, and not by the iterator of maxminddb: that one writes beyond its
        memory when a file is damaged (3.2.0).
        """
        form, bits = (IPv6Address, 128) if self._has_ipv6 else (IPv4Address, 32)
        address = 0
        for _ in range(_SAMPLE):
            record, prefix = self._reader.get_with_prefix_len(form(address))
            if isinstance(record, dict) and _FIELDS & record.keys():
                return True
            size = 1 << bits - prefix
            address = (address // size + 1) * size
            if address >> bits:
                break
        return False

    def find(self, address: IPv4Address | IPv6Address) -> Location:
        """Return the place of an address; what is raised is up to the reader."""
        if address.version == 6 and not self._has_ipv6:
            return NOWHERE
        return _place(self._reader.get(address))

    def close(self) -> None:
        self._reader.close()


class _File:
    """A path, and the database that was read from it last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: _Database | None = _Database(path)
        # What is wrong was logged: once with the file that came, once with the one that is read.
        self._is_refused = False
        self._is_damaged = False

    def find(self, address: IPv4Address | IPv6Address) -> Location:
        """Return the place of an address; never raises."""
        if self._database is None or self._is_overwritten(self._database):
            return NOWHERE
        try:
            return self._database.find(address)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, a session can be shown
            if not self._is_damaged:
                _log.error("%s: is damaged; fetch it anew: %s", self._path, error)
            self._is_damaged = True
            return NOWHERE

    async def look(self) -> None:
        """Take the file anew if it has changed, unless it is broken."""
        database = self._database
        try:
            if database is not None and _stamp(self._path) == database.stamp:
                self._is_refused = False
                return
            # Reads the disk, and the loop has other things to do.
            fresh = await asyncio.to_thread(_Database, self._path)
        except LocationError as error:
            if database is not None and self._is_overwritten(database):
                self.close()
            if not self._is_refused:
                meanwhile = (
                    "nothing is found in it" if self._database is None else "the one before it is used"
                )
                _log.error("%s; until this is mended, %s", error, meanwhile)
            self._is_refused = True
            return
        if self._database is not database:
            # Closed in the meantime.
            fresh.close()
            return
        self.close()
        self._database, self._is_refused, self._is_damaged = fresh, False, False
        _log.info("%s: taken anew", self._path)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def _is_overwritten(self, database: _Database) -> bool:
        try:
            return _stamp(self._path).overwrites(database.stamp)
        except LocationError:
            # Its name is gone, the file is not.
            return False


class Locations:
    """The places of addresses, from any number of files, of which the first that knows one is believed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the files; raise LocationError if one cannot be used."""
        self._files: list[_File] = []
        try:
            for path in paths:
                self._files.append(_File(path))
        except BaseException:
            self.close()
            raise

    def find(self, address: str) -> Location:
        """Return where an address is; an empty place when nobody knows, or when it is none."""
        if not self._files:
            return NOWHERE
        if (found := read(address)) is None:
            return NOWHERE
        for file in self._files:
            place = file.find(found)
            if place != NOWHERE:
                return place
        return NOWHERE

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Look after each tick whether files have changed, for ever; without files there is nothing to do."""
        while self._files:
            await tick()
            for file in list(self._files):
                try:
                    await file.look()
                except Exception:  # noqa: BLE001 - a fault here must not end the looking for good
                    _log.exception("a fault in looking at a file of places")

    def close(self) -> None:
        """Close the files; from now on nothing is found."""
        for file in self._files:
            file.close()
        self._files = []


def _stamp(path: Path) -> _Stamp:
    """Return what tells this file from another; raise LocationError if it is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of the method, and it is taken at each look-up
    except (FileNotFoundError, NotADirectoryError):
        raise LocationError(f"{path}: there is no such file; check AUTHSVC_GEOIP_DB") from None
    except PermissionError:
        raise LocationError(
            f"{path}: may not be reached; let the user that authsvc runs as into its directory"
        ) from None
    except (OSError, ValueError) as error:
        raise LocationError(f"{path}: cannot be read: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise LocationError(f"{path}: is {kind}; name the .mmdb file itself in AUTHSVC_GEOIP_DB")
    return _Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _place(record: object) -> Location:
    """Return the place in a record of either form; a file may have anything in it."""
    if not isinstance(record, dict):
        return NOWHERE
    subdivisions = record.get("subdivisions")
    return Location(
        city=_name(record.get("city")),
        region=_name(subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None)
        or _name(record.get("state1")),
        # The country where an address was registered, where nobody knows in which it is used.
        country_code=_code(record.get("country_code"))
        or _code(record.get("country"))
        or _code(record.get("registered_country")),
    )


def _name(value: object) -> str:
    """Return a name: flat, or the English one of many."""
    if isinstance(value, dict):
        names = value.get("names")
        value = names.get("en") if isinstance(names, dict) else None
    return cleaned(value) if isinstance(value, str) else ""


def _code(value: object) -> str:
    """Return the code of a country, which some write where others write its name."""
    if isinstance(value, dict):
        value = value.get("iso_code")
    return value.upper() if isinstance(value, str) and len(value) == 2 else ""
