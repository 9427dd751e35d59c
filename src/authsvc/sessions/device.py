"""Describes the device that sent a user agent, in the words that people use for it.

Mechanism: a user agent is that of a bot, an app with a name of its own, a program (`name/1.2`), or a browser.
Only browsers begin with `Mozilla/` or `Opera/`. ua-parser finds their name and version; it is not asked
about apps, since it would find the browser inside them. `model/system.py` finds the operating system and the
kind of device, and ua-parser the systems that are not known there. The device expressions of ua-parser, more
than half of its memory, are not loaded. Client hints take precedence over the user agent, except for names of
apps.

Cost: the import takes 6 MB. The first browser loads the expressions, which takes 0.05 to 0.1 s and 11 MB for
each process; `warm` does it in advance. Then a new browser takes 50 µs, a program 5 µs, the worst garbage
200 µs, and one of the last 2000 user agents 1 µs. These, and the caches of the expressions, take another
12 MB.

Failure: none. Garbage is described by empty texts. Versions that browsers have frozen are left out. An iOS
app on a Mac with Apple silicon is described as one on a phone, since both send the same user agent.
"""

import re
from dataclasses import replace
from typing import NamedTuple

from ua_parser import Domain, Resolver, load_lazy_builtins

# Imported explicitly: without this package, ua_parser silently falls back to code that is 100 times slower.
from ua_parser.regex import Resolver as RustResolver

from authsvc.model import bot, system
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.device import Device, DeviceType
from authsvc.model.memo import remembered
from authsvc.model.text import cleaned
from authsvc.model.user_agent import AGENT_LENGTH, Product, UserAgent, shown_version

_MAX_CACHED_AGENTS = 2000

# Programs that do not send their version: node, undici.
_BARE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
# Apps with a browser inside, by the name that they send.
_APPS = {
    "Code": "Visual Studio Code",
    "Discord": "Discord",
    "GSA": "Google",
    "GitHubDesktop": "GitHub Desktop",
    "MicrosoftTeams": "Microsoft Teams",
    "Slack": "Slack",
    "Slack_SSB": "Slack",
    "Teams": "Microsoft Teams",
    "discord": "Discord",
    "obsidian": "Obsidian",
}
# People call "Chrome Mobile iOS" Chrome.
_VARIANT = re.compile(r"^Mobile | UI/WKWebView$|(?: Mobile| WebView| iOS)+$")
_BROWSERS = {
    "Android": "Android Browser",
    "HeadlessChrome": "Headless Chrome",
    "IE": "Internet Explorer",
    "MiuiBrowser": "Mi Browser",
}
_SYSTEMS = {"ATV OS X": "tvOS", "Chrome OS": "ChromeOS", "Mac OS X": "macOS", "Web0S": "webOS"}


class _Described(NamedTuple):
    """A device, and whether its name is that of an app, a program or a bot, and not of a browser."""

    device: Device
    is_app: bool


def describe(user_agent: str, client_hints: ClientHints = NO_HINTS) -> Device:
    """Describe the device that sends `user_agent` and `client_hints`; never raise.

    The hints have to be those of `ClientHints.kept`, which are short. The `user_agent` is cut to
    `AGENT_LENGTH` characters.

    All texts of the result can be shown, stored and sent: they have no invisible characters, no lone
    surrogates, and nothing that changes the direction of writing (`model/text.py`).
    """
    # Before the cache, so that it holds nothing long.
    text = cleaned(user_agent[:AGENT_LENGTH])
    described = _describe(text.strip())
    device = client_hints.applied(described.device, is_app=described.is_app)
    # A part of a clean text need not be clean itself: it may have been cut inside an emoji, for example.
    found = (device.browser, device.browser_version, device.os, device.os_version, device.model)
    browser, browser_version, os, os_version, model = shown = tuple(map(cleaned, found))
    if shown == found:
        return device
    return replace(
        device, browser=browser, browser_version=browser_version, os=os, os_version=os_version, model=model
    )


def warm() -> None:
    """Load the expressions now, so that no call has to wait for them."""
    _resolver()


@remembered(max_entries=1, max_length=0)
def _resolver() -> Resolver:
    browsers, systems, _ = load_lazy_builtins()
    return RustResolver((browsers, systems, []))


@remembered(max_entries=_MAX_CACHED_AGENTS, max_length=AGENT_LENGTH)
def _describe(user_agent: str) -> _Described:
    if not user_agent:
        return _Described(Device(), is_app=False)
    agent = UserAgent.read(user_agent)
    found = bot.find(agent)
    if found is not None:
        # The system that it sends is that of the phone that it imitates.
        return _Described(Device(found.name, found.version, "", "", DeviceType.BOT, user_agent), is_app=True)
    program = _program(agent)
    known = system.find(agent)
    if program is not None:
        kind = known.device_type if known else DeviceType.UNKNOWN
        if kind in (DeviceType.UNKNOWN, DeviceType.DESKTOP):
            kind = system.device_type_of_program(agent)
        name, version = (known.name, known.version) if known else ("", "")
        if agent.is_browser and not name:
            name, version = _system_by_name(user_agent)
        return _Described(Device(program.name, program.version, name, version, kind, user_agent), is_app=True)
    name, version = (known.name, known.version) if known else _system_by_name(user_agent)
    kind = known.device_type if known else DeviceType.UNKNOWN
    if kind in (DeviceType.UNKNOWN, DeviceType.DESKTOP):
        kind = system.device_type(agent) or kind
    app = _app(agent)
    shown = app or (_browser(agent) if agent.is_browser else Product("", ""))
    return _Described(
        Device(shown.name, shown.version, name, version, kind, user_agent), is_app=app is not None
    )


def _program(agent: UserAgent) -> Product | None:
    """Return the program that sends its own name; None if it is a browser or unknown."""
    if agent.is_browser:
        name = next((name for name in ("PowerShell", "WindowsPowerShell") if agent.names(name)), "")
        return Product("PowerShell", agent.version_of(name)) if name else None
    if _BARE_NAME.fullmatch(agent.bare.strip()):
        return Product(agent.bare.strip(), "")
    named = agent.named()
    # aiohttp sends the version of Python before its own.
    return agent.products[1] if named and named.name == "Python" and agent.products[1:] else named


def _app(agent: UserAgent) -> Product | None:
    """Return the app that has a browser inside; None if it does not send a name of its own."""
    for product in agent.products:
        if product.name in _APPS:
            return product._replace(name=_APPS[product.name])
    return agent.own() if agent.names("Electron") else None


def _browser(agent: UserAgent) -> Product:
    found = _resolver()(agent.text, Domain.USER_AGENT).user_agent
    if found is not None and bot.is_name(found.family):
        # ua-parser has taken the name of a device for that of a bot. Devices are not in the bare text.
        found = _resolver()(agent.bare, Domain.USER_AGENT).user_agent
    if found is None:
        return Product("", "")
    name = _VARIANT.sub("", found.family)
    return Product(_BROWSERS.get(name, name), _version(found.major, found.minor))


def _system_by_name(user_agent: str) -> tuple[str, str]:
    found = _resolver()(user_agent, Domain.OS).os
    if found is None:
        return "", ""
    return _SYSTEMS.get(found.family, found.family), _version(found.major, found.minor)


def _version(major: str | None, minor: str | None) -> str:
    """Return 18.1 for 18 and 1, and 131 for 131 and 0."""
    return shown_version(f"{major}.{minor}" if minor else major) if major else ""
