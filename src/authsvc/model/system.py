"""The operating system and the kind of device in a user agent, as far as they are true.

Browsers have frozen the version of the system in their user agents. All say `Windows NT 10.0` on Windows 10
and 11, macOS 10.15 on all later versions, and ChromeOS 14541. Chromium says `Android 10; K`. Safari says iOS
18.6 or 18.7 from iOS 26 on; there, the version of the system is that of Safari. Frozen versions are left out.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from authsvc.model.device import DeviceType
from authsvc.model.user_agent import UserAgent, shown_version


class System(NamedTuple):
    """A system, its version and the device that it runs on. Unknown values are empty."""

    name: str = ""
    version: str = ""
    device_type: DeviceType = DeviceType.UNKNOWN


# From this build on, Windows NT 10.0 is Windows 11.
_WINDOWS_11 = 22000
_WINDOWS_BUILD = re.compile(r"Windows (?:NT )?10\.0\.(\d{5})")
_WINDOWS = {"6.3": "8.1", "6.2": "8", "6.1": "7", "6.0": "Vista", "5.2": "XP", "5.1": "XP", "5.0": "2000"}
_WINDOWS_NT = re.compile(r"Windows NT (\d+\.\d+)")

_IOS = re.compile(
    r"\b(?:iPhone|CPU|iPad)? ?(?:iPhone )?OS (\d+)[_.](\d+)|\b(?:iOS|iPadOS)[ /](\d+)(?:[_.](\d+))?"
)
# The versions that WebKit states on any iOS since 26.
_FROZEN_IOS = frozenset({"18.6", "18.7"})
_UNFROZEN_SAFARI = 26

_MACOS = re.compile(r"Mac ?OS(?: X)?[ /]?(?:Version )?(\d+)[_.](\d+)", re.IGNORECASE)
_FROZEN_MACOS = "10.15"
_DARWIN = re.compile(r"\bDarwin/(\d+)")

# Some apps state it without a version: Instagram 340.1 Android (…).
_ANDROID_WORD = re.compile(r"\bAndroid\b")
_ANDROID_APP = re.compile(r"(?<= )Android(?= |$)")
_ANDROID = re.compile(r"Android[ /](\d+)(?:\.(\d+))?")
_FROZEN_ANDROID = re.compile(r"Android 10; (?:K|Mobile|Tablet)\b")
_HARMONY = re.compile(r"\b(?:OpenHarmony|HarmonyOS)(?:[ /](\d+)(?:\.(\d+))?)?")
_ANDROID_TABLET = re.compile(
    r"\bSM-[TXP]\d|\bTab\b|\bPad\b|Tablet|\bKF[A-Z]{2}|Nexus (?:7|9|10)\b|Pixel C\b", re.IGNORECASE
)

_TELEVISION = re.compile(
    r"smart-?tv|smart tv|google ?tv|android ?tv|apple ?tv|hbbtv|bravia|(?-i:\bAFT[A-Z0-9])|crkey|roku"
    r"|web0s|netcast|vidaa|viera|(?-i:TV Safari)|philipstv|chromecast",
    re.IGNORECASE,
)
# Some phones have this in their name, too.
_TELEVISION_PERHAPS = re.compile(r"\btv\b", re.IGNORECASE)
_HEADSET = re.compile(r"; (?:Quest|Pico)(?: \w+)?(?: Build/|[;)])|\b(?:OculusBrowser|PicoBrowser)/")
_CONSOLE = re.compile(
    r"(PlayStation (?:\d|Vita|Portable))[ /;]*(\d+\.\d+)?|(Xbox)(?:; (Xbox [A-Za-z]+(?: [XS])?))?"
    r"|(Nintendo (?:Switch(?: 2)?|WiiU|3DS|DSi|Wii))",
    re.IGNORECASE,
)
_CONSOLES = {"playstation": "PlayStation", "nintendo wiiu": "Wii U", "nintendo wii": "Wii"}

# The first expression that matches decides.
_TYPES = (
    # Internet Explorer lists "Tablet PC" on any Windows. Android leaves out "Mobile" on tablets.
    (re.compile(r"iPad|Tablet(?! PC)|Kindle|PlayBook"), DeviceType.TABLET),
    (re.compile(r"Mobi|iPhone|iPod|Windows Phone|BlackBerry|BB10|Opera Mini|KAIOS"), DeviceType.MOBILE),
    (re.compile(r"Android|Silk/"), DeviceType.TABLET),
    (re.compile(r"Windows|Macintosh|X11|Linux|CrOS"), DeviceType.DESKTOP),
)
# Browsers on iOS, which have other names on a Mac.
_ON_IOS = ("CriOS", "EdgiOS", "FxiOS", "GSA", "OPiOS", "OPT", "DuckDuckGo-iOS")


def find(agent: UserAgent) -> System | None:
    """Return the system of an agent; None if it is not one that needs the special rules of this module."""
    return next((found for detect in _DETECTORS if (found := detect(agent)) is not None), None)


def device_type(agent: UserAgent) -> DeviceType:
    """Return the kind of device of a browser."""
    if _is_television(agent):
        return DeviceType.TV
    return next((kind for token, kind in _TYPES if token.search(agent.text)), DeviceType.UNKNOWN)


def device_type_of_program(agent: UserAgent) -> DeviceType:
    """Return the kind of device of an agent that is not a browser, when its system does not tell."""
    return DeviceType.TV if _TELEVISION.search(agent.text) else DeviceType.PROGRAM


def _is_television(agent: UserAgent) -> bool:
    if _TELEVISION.search(agent.text):
        return True
    # Phones have "Mobile", whatever their names are.
    return agent.is_browser and not _is_mobile(agent) and _TELEVISION_PERHAPS.search(agent.text) is not None


def _is_mobile(agent: UserAgent) -> bool:
    return re.search(r"\bMobile\b", agent.bare) is not None


def _console(agent: UserAgent) -> System | None:
    match = _CONSOLE.search("; ".join(agent.comments))
    if match is None:
        return None
    playstation, firmware, xbox, model, nintendo = match.groups()
    if playstation is not None:
        name = f"PlayStation {playstation.split()[1].title()}"
        return System(name, firmware or "", DeviceType.CONSOLE)
    name = model or xbox or _CONSOLES.get(nintendo.lower(), nintendo)
    return System(name, "", DeviceType.CONSOLE)


def _headset(agent: UserAgent) -> System | None:
    if not _HEADSET.search(agent.text):
        return None
    # All run Android, and state Linux when they request the desktop version of a page.
    match = _ANDROID.search(agent.platform)
    return System("Android", _joined(match[1], match[2]) if match else "", DeviceType.HEADSET)


def _harmony(agent: UserAgent) -> System | None:
    match = _HARMONY.search(agent.platform)
    if match is None:
        return None
    first = agent.platform.partition(";")[0].strip()
    kinds = {"Phone": DeviceType.MOBILE, "Tablet": DeviceType.TABLET, "PC": DeviceType.DESKTOP}
    kinds |= {"2in1": DeviceType.DESKTOP, "TV": DeviceType.TV}
    kind = kinds.get(first) or (DeviceType.MOBILE if _is_mobile(agent) else DeviceType.TABLET)
    return System("HarmonyOS", _joined(match[1], match[2]), kind)


def _apple_television(agent: UserAgent) -> System | None:
    match = re.search(r"\b(?:tvOS[ /]|Apple ?TV.*?OS )(\d+)[_.](\d+)", agent.text)
    return System("tvOS", _joined(match[1], match[2]), DeviceType.TV) if match else None


def _ios(agent: UserAgent) -> System | None:
    """Return iOS or iPadOS, also when an iPad pretends to be a Macintosh."""
    text = agent.text
    as_mac = "Macintosh" in agent.platform and (_is_mobile(agent) or agent.names(*_ON_IOS))
    if as_mac or "iPad" in text:
        name, kind = "iPadOS", DeviceType.TABLET
    elif re.search(r"\biPhone\b|\biPod\b", text) or re.search(r"\biOS[ /]\d", text):
        name, kind = "iOS", DeviceType.MOBILE
    else:
        return None
    if _TELEVISION.search(agent.platform):
        return None
    if as_mac:
        # The version of macOS is invented. The version of Safari is that of the system.
        return System(name, agent.version_of("Version") if not agent.names(*_ON_IOS) else "", kind)
    match = _IOS.search(text)
    version = "" if match is None else _joined(match[1] or match[3], match[2] or match[4])
    if agent.is_browser:
        safari = agent.version_of("Version")
        if safari and int(safari.partition(".")[0]) >= _UNFROZEN_SAFARI:
            version = safari
        elif version in _FROZEN_IOS and safari != version:
            version = ""
    return System(name, version, kind)


def _core_foundation(agent: UserAgent) -> System | None:
    """Return the system of an app that uses the default user agent of Apple's networking library.

    It states the version of the kernel, which iOS and macOS share. An Intel processor means a Mac. One of
    Apple is taken to be that of a phone, as most are.
    """
    match = _DARWIN.search(agent.bare)
    if match is None or not agent.names("CFNetwork"):
        return None
    darwin = int(match[1])
    if "x86_64" in agent.text or agent.names("Mac"):
        macos = darwin - 9 if darwin < 25 else darwin + 1
        return System("macOS", str(macos) if darwin >= 20 else "", DeviceType.PROGRAM)
    ios = darwin - 6 if darwin < 25 else darwin + 1
    return System("iOS", str(ios) if darwin >= 14 else "", DeviceType.MOBILE)


def _android(agent: UserAgent) -> System | None:
    match = _ANDROID.search(agent.platform)
    if match is None:
        is_app = not agent.is_browser and (
            any(map(_ANDROID_WORD.search, agent.comments)) or _ANDROID_APP.search(agent.bare)
        )
        if not is_app:
            return None
    version = "" if match is None or _FROZEN_ANDROID.search(agent.platform) else _joined(match[1], match[2])
    if agent.is_browser:
        return System("Android", version, device_type(agent))
    if _TELEVISION.search(agent.platform):
        kind = DeviceType.TV
    elif _ANDROID_TABLET.search(agent.platform):
        kind = DeviceType.TABLET
    else:
        kind = DeviceType.MOBILE
    return System("Android", version, kind)


def _windows(agent: UserAgent) -> System | None:
    match = _WINDOWS_NT.search(agent.platform)
    if match is None or "Windows Phone" in agent.platform:
        return None
    if build := _WINDOWS_BUILD.search(agent.platform):
        version = "11" if int(build[1]) >= _WINDOWS_11 else "10"
    else:
        version = _WINDOWS.get(match[1], "")
    return System("Windows", version, DeviceType.DESKTOP)


def _macos(agent: UserAgent) -> System | None:
    if not re.search(r"Mac ?OS|Macintosh", agent.platform, re.IGNORECASE) or "like Mac" in agent.platform:
        return None
    match = _MACOS.search(agent.platform)
    version = "" if match is None else _joined(match[1], match[2])
    return System("macOS", "" if version == _FROZEN_MACOS else version, DeviceType.DESKTOP)


def _chromeos(agent: UserAgent) -> System | None:
    # The number is that of a build, frozen at 14541, and never was the version that people know.
    return System("ChromeOS", "", DeviceType.DESKTOP) if "CrOS " in agent.platform else None


_DETECTORS: tuple[Callable[[UserAgent], System | None], ...] = (
    _console,
    _headset,
    _harmony,
    _apple_television,
    _ios,
    _core_foundation,
    _android,
    _windows,
    _macos,
    _chromeos,
)


def _joined(major: str | None, minor: str | None) -> str:
    return shown_version(f"{major}.{minor}" if minor else major or "")
