"""User-agent client hints (`Sec-CH-UA-…`), with what browsers no longer put into the user agent."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol, Self

from authsvc.model.device import Device, DeviceType
from authsvc.model.key_string import redact
from authsvc.model.text import cleaned
from authsvc.model.user_agent import shown_version

# Brand lists have 60 to 150 characters, other hints fewer than 40.
_MAX_LIST_LENGTH, _MAX_LENGTH = 256, 64
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BRAND = re.compile(r'"((?:[^"\\]|\\.)*)"\s*;\s*v\s*=\s*"([^"\\]*)"')
_BRANDS = {
    "Google Chrome": "Chrome",
    "HeadlessChrome": "Headless Chrome",
    "Microsoft Edge": "Edge",
    "YaBrowser": "Yandex Browser",
}
# Brands that name the engine of a browser or an app.
_ENGINES = frozenset({"Chromium", "Android WebView", "Microsoft Edge WebView2", "Yowser"})
_SYSTEMS = {"Chrome OS": "ChromeOS", "Chromium OS": "ChromeOS", "Unknown": ""}
_FORM_FACTORS = {
    "Desktop": DeviceType.DESKTOP,
    "Mobile": DeviceType.MOBILE,
    "Tablet": DeviceType.TABLET,
    "XR": DeviceType.HEADSET,
}
_VERSIONED_SYSTEMS = frozenset({"Windows", "macOS", "Android"})


class HintsMessage(Protocol):
    """A message with the hints, in fields of their names; the model knows no generated code."""

    brands: str
    full_version_list: str


class ClientHints(NamedTuple):
    """The values of the headers as they were sent, each cut to its maximum length; empty if not sent."""

    brands: str = ""
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    mobile: str = ""
    form_factors: str = ""

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> Self:
        """Return the hints among a request's headers, whose names are in lower case."""
        if "sec-ch-ua" not in headers and "sec-ch-ua-platform" not in headers:
            return cls()
        return cls(
            headers.get("sec-ch-ua-full-version-list") or headers.get("sec-ch-ua", ""),
            *(headers.get(f"sec-ch-ua-{name.replace('_', '-')}", "") for name in cls._fields[1:]),
        ).kept()

    @classmethod
    def of_message(cls, message: "HintsMessage") -> Self:
        """Return the hints in a message of the API."""
        return cls(
            message.full_version_list or message.brands,
            *(getattr(message, name) for name in cls._fields[1:]),
        ).kept()

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return the hints from the output of `as_json`. Unknown fields, of a later version, are ignored."""
        return cls(**{name: value for name, value in json.loads(text).items() if name in cls._fields})

    def as_json(self) -> str:
        """Return the fields that are not empty, as a JSON object."""
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return the fields that are not empty."""
        return {name: value for name, value in self._asdict().items() if value}

    def kept(self) -> Self:
        """Return the hints as they are stored: cut, without key strings and invisible characters."""
        return type(self)(
            *(
                _kept(text, _MAX_LENGTH if at else _MAX_LIST_LENGTH) if text else ""
                for at, text in enumerate(self)
            )
        )

    def updated(self, later: "ClientHints") -> Self:
        """Return the hints, replaced by later ones where those are set: browsers do not always send all."""
        return type(self)(*(new or old for old, new in zip(self, later, strict=True)))

    def applied(self, device: Device, *, is_app: bool) -> Device:
        """Return the device of a user agent, corrected by the hints.

        An app (`is_app`) keeps its name and version, because hints name the browser that is embedded in it.
        """
        if self == NO_HINTS or device.device_type in (DeviceType.BOT, DeviceType.PROGRAM, DeviceType.CONSOLE):
            return device
        return self._with_system(device if is_app else self._with_browser(device))

    def _with_browser(self, device: Device) -> Device:
        for brand, version in _BRAND.findall(self.brands):
            if brand in _ENGINES or _is_made_up(brand):
                continue
            return replace(device, browser=_BRANDS.get(brand, brand), browser_version=shown_version(version))
        return device

    def _with_system(self, device: Device) -> Device:
        system, version, kind = device.os, device.os_version, device.device_type
        platform = _text(self.platform)
        platform = _SYSTEMS.get(platform, platform)
        # Hints call all distributions "Linux", and systems that derive from Android "Android".
        is_finer = (
            platform == "Linux" and system not in ("Windows", "macOS", "Android", "ChromeOS", "")
        ) or (platform == "Android" and system == "HarmonyOS")
        if platform and not is_finer:
            if platform != system:
                system, version = platform, ""
                kind = DeviceType.TABLET if platform == "Android" and kind is DeviceType.DESKTOP else kind
            version = self._system_version(platform) or version
        factors = [
            _FORM_FACTORS[name] for name in _STRING.findall(self.form_factors) if name in _FORM_FACTORS
        ]
        if kind is not DeviceType.TV:
            if factors:
                kind = factors[0]
            elif self.mobile == "?1" and kind in (DeviceType.UNKNOWN, DeviceType.DESKTOP):
                kind = DeviceType.MOBILE
        return replace(
            device, os=system, os_version=version, device_type=kind, model=_text(self.model) or device.model
        )

    def _system_version(self, system: str) -> str:
        version = _text(self.platform_version)
        if system not in _VERSIONED_SYSTEMS or not re.fullmatch(r"\d{1,4}(?:\.\d{1,9}){0,3}", version):
            return ""
        if system != "Windows":
            return shown_version(version)
        # This is the version of an API; see
        # https://learn.microsoft.com/microsoft-edge/web-platform/how-to-detect-win11
        major, minor = (int(part) for part in [*version.split("."), "0"][:2])
        if major == 0:
            return {1: "7", 2: "8", 3: "8.1"}.get(minor, "")
        return "11" if major >= 13 else "10"


NO_HINTS = ClientHints()


def _kept(text: str, longest: int) -> str:
    return cleaned(redact(text[: 4 * longest])[:longest]).strip()


def _text(value: str) -> str:
    """Return the text of a structured-field string (RFC 9651), also when its quotes are missing."""
    match = _STRING.match(value)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else value.strip('"')


def _is_made_up(brand: str) -> bool:
    """Return whether this is the meaningless brand that browsers add to keep parsers flexible (GREASE)."""
    return re.sub(r"[^a-z]", "", brand.lower()) == "notabrand"
