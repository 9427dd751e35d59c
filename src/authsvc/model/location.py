"""The approximate location of an address."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A location as it is shown to people. Unknown values are empty.

    `country_code` is ISO 3166-1 alpha-2, such as DE.
    """

    city: str = ""
    region: str = ""
    country_code: str = ""
