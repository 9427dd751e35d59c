"""The device at the other end, as far as its user agent tells."""

from dataclasses import dataclass
from enum import StrEnum


class DeviceType(StrEnum):
    """What kind of thing calls."""

    UNKNOWN = ""
    DESKTOP = "desktop"
    MOBILE = "mobile"
    TABLET = "tablet"
    TV = "tv"
    CONSOLE = "console"
    HEADSET = "headset"
    BOT = "bot"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Device:
    """A device in words for people; what is unknown is empty.

    The caller wrote the user agent, so nothing here is proved: it is for showing only.
    """

    browser: str = ""
    browser_version: str = ""
    os: str = ""
    os_version: str = ""
    device_type: DeviceType = DeviceType.UNKNOWN
    user_agent: str = ""
    # Told by client hints only.
    model: str = ""
