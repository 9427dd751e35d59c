"""What a user agent tells of the device, in the words that people use.

Mechanism: who calls is a bot, an app with a name of its own, a program (`name/1.2`), or a
browser. Only agents of browsers begin with `Mozilla/` or `Opera/`, and only their names and
versions are left to ua-parser, which finds a browser in those of apps, too. The system and the
kind of device are worked out in `model/system.py`, and by ua-parser for systems that are not
known there; its device expressions, more than half of its memory, are not loaded. Client hints
are believed first, but for the names of apps.

Cost: the import takes 6 MB, and the first browser loads the expressions, 0.05 to 0.1 s
and 11 MB a process; `warm` does it at a moment of one's choosing. From then on 50 µs for
a new browser, 5 for a program, 200 for the worst rubbish, and 1 for one of the last
2000, which take, with what the expressions keep for speed, some 12 MB more.

Failure: none. Rubbish is described by empty words. Versions that browsers have frozen
are left out. An app of iOS that runs on a Mac with a processor of Apple's is taken for one
on a phone, since the two say the same.
"""

import re
from dataclasses import replace
from typing import NamedTuple

from ua_parser import Domain, Resolver, load_lazy_builtins

# By name: ua_parser itself would do without the package, a hundred times slower, and say nothing.
from ua_parser.regex import Resolver as RustResolver

from authsvc.model import bot, system
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.device import Device, DeviceType
from authsvc.model.memo import remembered
from authsvc.model.text import cleaned
from authsvc.model.user_agent import AGENT_LENGTH, Product, UserAgent, shown_version

_REMEMBERED = 2000

# Programs that do not tell their version: node, undici.
_BARE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
# Apps with a browser inside, by the name of their product.
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
# "Chrome Mobile iOS" is Chrome to whoever uses it.
_VARIANT = re.compile(r"^Mobile | UI/WKWebView$|(?: Mobile| WebView| iOS)+$")
_BROWSERS = {
    "Android": "Android Browser",
    "HeadlessChrome": "Headless Chrome",
    "IE": "Internet Explorer",
    "MiuiBrowser": "Mi Browser",
}
_SYSTEMS = {"ATV OS X": "tvOS", "Chrome OS": "ChromeOS", "Mac OS X": "macOS", "Web0S": "webOS"}


class _Described(NamedTuple):
    """A device, and whether its name is an app's, a program's or a bot's own, and no browser's."""

    device: Device
    is_app: bool


def describe(user_agent: str, client_hints: ClientHints = NO_HINTS) -> Device:
    """Describe the device that sends `user_agent` and, with it, `client_hints`; never raises.

    The hints are to be those of `ClientHints.kept`, so that they are short.

    All words of the outcome are fit to be shown, stored and sent: without what nobody
    can see, what UTF-8 cannot say and what turns the direction of writing (`model/text.py`).
    The `user_agent` is cut to AGENT_LENGTH.
    """
    # Before the memory, so that it holds nothing long.
    text = cleaned(user_agent[:AGENT_LENGTH])
    described = _describe(text.strip())
    device = client_hints.applied(described.device, is_app=described.is_app)
    # A part of a text may be unfit that was fit in it.
    told = (device.browser, device.browser_version, device.os, device.os_version, device.model)
    browser, browser_version, os, os_version, model = shown = tuple(map(cleaned, told))
    if shown == told:
        return device
    return replace(
        device, browser=browser, browser_version=browser_version, os=os, os_version=os_version, model=model
    )


def warm() -> None:
    """Load the expressions now, so that no caller waits for it."""
    _resolver()


@remembered(max_entries=1, max_length=0)
def _resolver() -> Resolver:
    browsers, systems, _ = load_lazy_builtins()
    return RustResolver((browsers, systems, []))


@remembered(max_entries=_REMEMBERED, max_length=AGENT_LENGTH)
def _describe(user_agent: str) -> _Described:
    if not user_agent:
        return _Described(Device(), is_app=False)
    agent = UserAgent.read(user_agent)
    found = bot.find(agent)
    if found is not None:
        # The system is that of the phone whose part it plays.
        return _Described(Device(found.name, found.version, "", "", DeviceType.BOT, user_agent), is_app=True)
    program = _program(agent)
    told = system.find(agent)
    if program is not None:
        kind = told.device_type if told else DeviceType.UNKNOWN
        if kind in (DeviceType.UNKNOWN, DeviceType.DESKTOP):
            kind = system.device_type_of_program(agent)
        name, version = (told.name, told.version) if told else ("", "")
        if agent.is_browser and not name:
            name, version = _system_by_name(user_agent)
        return _Described(Device(program.name, program.version, name, version, kind, user_agent), is_app=True)
    name, version = (told.name, told.version) if told else _system_by_name(user_agent)
    kind = told.device_type if told else DeviceType.UNKNOWN
    if kind in (DeviceType.UNKNOWN, DeviceType.DESKTOP):
        kind = system.device_type(agent) or kind
    app = _app(agent)
    shown = app or (_browser(agent) if agent.is_browser else Product("", ""))
    return _Described(
        Device(shown.name, shown.version, name, version, kind, user_agent), is_app=app is not None
    )


def _program(agent: UserAgent) -> Product | None:
    """Return the program that calls by its own name; None when it is a browser, or nobody knows."""
    if agent.is_browser:
        name = next((name for name in ("PowerShell", "WindowsPowerShell") if agent.names(name)), "")
        return Product("PowerShell", agent.version_of(name)) if name else None
    if _BARE_NAME.fullmatch(agent.bare.strip()):
        return Product(agent.bare.strip(), "")
    named = agent.named()
    # aiohttp names its Python first.
    return agent.products[1] if named and named.name == "Python" and agent.products[1:] else named


def _app(agent: UserAgent) -> Product | None:
    """Return the app that shows pages by a browser inside; None when it has no name of its own."""
    for product in agent.products:
        if product.name in _APPS:
            return product._replace(name=_APPS[product.name])
    return agent.own() if agent.names("Electron") else None


def _browser(agent: UserAgent) -> Product:
    found = _resolver()(agent.text, Domain.USER_AGENT).user_agent
    if found is not None and bot.is_name(found.family):
        # What it has taken for one is a device.
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
