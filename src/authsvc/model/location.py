"""Where an address is, roughly."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A place in words for people; what is unknown is empty.

    `country_code` is ISO 3166-1 alpha-2, such as DE.
    """

    city: str = ""
    region: str = ""
    country_code: str = ""
