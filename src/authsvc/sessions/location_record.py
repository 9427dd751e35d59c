"""The location in a record of an MMDB file: MaxMind's nested form, or the flat one of DB-IP and others."""

from authsvc.model.location import Location
from authsvc.model.text import cleaned

NOWHERE = Location()

# Of a name; a file may have anything in it.
_MAX_NAME_LENGTH = 128
# A record of a location has at least one of these.
_FIELDS = frozenset({"city", "country", "registered_country", "country_code", "state1", "subdivisions"})


def has_location(record: object) -> bool:
    """Say whether a record has a field of a location."""
    return isinstance(record, dict) and bool(_FIELDS & record.keys())


def read_location(record: object) -> Location:
    """Return the location in a record; a file may have anything in it."""
    if not isinstance(record, dict):
        return NOWHERE
    subdivisions = record.get("subdivisions")
    return Location(
        city=_name(record.get("city")),
        region=_name(subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None)
        or _name(record.get("state1")),
        # Where it is not known in which country an address is used, the country in which it was registered.
        country_code=_code(record.get("country_code"))
        or _code(record.get("country"))
        or _code(record.get("registered_country")),
    )


def _name(value: object) -> str:
    """Return a name: flat, or the English one of many."""
    if isinstance(value, dict):
        names = value.get("names")
        value = names.get("en") if isinstance(names, dict) else None
    return cleaned(value[:_MAX_NAME_LENGTH]) if isinstance(value, str) else ""


def _code(value: object) -> str:
    """Return the code of a country, which some files write where others write its name."""
    if isinstance(value, dict):
        value = value.get("iso_code")
    return value.upper() if isinstance(value, str) and len(value) == 2 else ""
