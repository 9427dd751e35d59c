"""The device of a client, as far as its user agent tells."""

from dataclasses import dataclass
from enum import StrEnum


class DeviceType(StrEnum):
    """The kind of device or program."""

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
    """A device as it is shown to people. Unknown values are empty.

    The client writes the user agent, so nothing here can be relied on for security.
    """

    browser: str = ""
    browser_version: str = ""
    os: str = ""
    os_version: str = ""
    device_type: DeviceType = DeviceType.UNKNOWN
    user_agent: str = ""
    # From client hints only.
    model: str = ""
