"""What a user agent tells of the device, in the words that people use.

Mechanism: a browser (`Mozilla/…`, `Opera/…`) is left to ua-parser, which knows their
names and versions; everything else that begins with `name/1.2` is a program of that
name. The kind of device follows from a few tokens, since ua-parser tells the model of
a phone but not that it is one; so its device expressions, more than half of its
memory, are not loaded.

Cost: the import takes 6 MB, and the first browser loads the expressions, 0.05 to 0.1 s
and 11 MB a process; `warm` does it at a moment of one's choosing. From then on 50 µs for
a new browser, 5 for a program, 200 for the worst rubbish, and 1 for one of the last
2000, which take, with what the expressions keep for speed, some 12 MB more.

Failure: none. Rubbish is described by empty words. A frozen user agent is believed:
Safari and Chrome say macOS 10.15 on every later one, Chrome says Android 10, and all
say Windows 10 on Windows 11.
"""

import re

from ua_parser import Domain, Resolver, load_lazy_builtins

# By name: ua_parser itself would do without the package, a hundred times slower, and say nothing.
from ua_parser.regex import Resolver as RustResolver

from authsvc.memo import remembered
from authsvc.model.device import Device, DeviceType

# Longer ones are cut, so that work and memory are bounded; real ones have 100 to 300.
MAX_LENGTH = 512
_REMEMBERED = 2000

_BROWSER = re.compile(r"(?:Mozilla|Opera)/")
# aiohttp names its Python first.
_PROGRAM = re.compile(
    r"(?:Python/\S{1,32} (?=\w))?([A-Za-z][A-Za-z0-9._+-]{0,63})/v?(\d{1,9})(?:\.(\d{1,9}))?"
)
# Not CUBOT, which makes phones.
_BOT = re.compile(
    r"(?<!cu)bots?(?![a-z])|crawler|spider|slurp|facebookexternalhit|ia_archiver|bingpreview|mediapartners-google",
    re.IGNORECASE,
)
# The first one that is found says what it is.
_TYPES = (
    (
        re.compile(
            r"smart-?tv|smart tv|google ?tv|android ?tv|apple ?tv|hbbtv|bravia|(?-i:\bAFT[A-Z0-9])|crkey|roku"
            r"|web0s|netcast|vidaa|viera|\btv\b",
            re.IGNORECASE,
        ),
        DeviceType.TV,
    ),
    (re.compile(r"PlayStation|Xbox|Nintendo"), DeviceType.CONSOLE),
    # Internet Explorer lists "Tablet PC" on any Windows. Android leaves out "Mobile" on tablets.
    (re.compile(r"iPad|Tablet(?! PC)|Kindle|PlayBook"), DeviceType.TABLET),
    (re.compile(r"Mobi|iPhone|iPod|Windows Phone|BlackBerry|Opera Mini"), DeviceType.MOBILE),
    (re.compile(r"Android|Silk/"), DeviceType.TABLET),
    (re.compile(r"Windows|Macintosh|X11|Linux|CrOS"), DeviceType.DESKTOP),
)
# "Chrome Mobile iOS" is Chrome to whoever uses it.
_VARIANT = re.compile(r"^Mobile | UI/WKWebView$|(?: Mobile| WebView| iOS)+$")
_BROWSERS = {
    "Android": "Android Browser",
    "HeadlessChrome": "Headless Chrome",
    "IE": "Internet Explorer",
    "MiuiBrowser": "Mi Browser",
}
_SYSTEMS = {"ATV OS X": "tvOS", "Chrome OS": "ChromeOS", "Mac OS X": "macOS", "Web0S": "webOS"}


def describe(user_agent: str) -> Device:
    """Describe the device that sends `user_agent`; never raises.

    The `user_agent` of the outcome is fit to be shown, stored and sent: cut to
    MAX_LENGTH, and a space in place of each character that nobody can see, which also
    takes out what UTF-8 cannot say and what turns the direction of writing.
    """
    # Before the memory, so that it holds nothing long.
    text = user_agent[:MAX_LENGTH]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return _describe(text.strip())


def warm() -> None:
    """Load the expressions now, so that no caller waits for it."""
    _resolver()


@remembered(most=1, longest=0)
def _resolver() -> Resolver:
    browsers, systems, _ = load_lazy_builtins()
    return RustResolver((browsers, systems, []))


@remembered(most=_REMEMBERED, longest=MAX_LENGTH)
def _describe(user_agent: str) -> Device:
    if not user_agent:
        return Device()
    program = None if _BROWSER.match(user_agent) else _PROGRAM.match(user_agent)
    bot = _BOT.search(user_agent) is not None
    if program is not None and not bot:
        name, *version = program.groups()
        return Device(name, _version(*version), "", "", DeviceType.PROGRAM, user_agent)
    found = _resolver()(user_agent, Domain.USER_AGENT | Domain.OS)
    browser, version_, system, system_version = "", "", "", ""
    if found.user_agent is not None:
        browser = _VARIANT.sub("", found.user_agent.family)
        browser = _BROWSERS.get(browser, browser)
        version_ = _version(found.user_agent.major, found.user_agent.minor)
    elif program is not None:
        browser, version_ = program[1], _version(program[2], program[3])
    if bot:
        # The system is that of the phone whose part it plays.
        return Device(browser, version_, "", "", DeviceType.BOT, user_agent)
    if found.os is not None:
        system = _SYSTEMS.get(found.os.family, found.os.family)
        system_version = _version(found.os.major, found.os.minor)
        if system == "iOS" and "iPad" in user_agent:
            system = "iPadOS"
    return Device(browser, version_, system, system_version, _device_type(user_agent), user_agent)


def _device_type(user_agent: str) -> DeviceType:
    return next((kind for token, kind in _TYPES if token.search(user_agent)), DeviceType.UNKNOWN)


def _version(major: str | None, minor: str | None) -> str:
    """Return 18.1 for 18 and 1, and 131 for 131 and 0."""
    return f"{major or ''}.{minor or ''}".removesuffix(".0").rstrip(".") if major else ""
