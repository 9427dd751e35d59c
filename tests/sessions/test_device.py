"""The descriptions of user agents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ua_parser.regex import Resolver

from authsvc.model.device import Device, DeviceType
from authsvc.model.session import shortened
from authsvc.model.text import fault
from authsvc.model.use import noted
from authsvc.model.user_agent import AGENT_LENGTH
from authsvc.sessions import device
from authsvc.sessions.device import describe

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "browser", "system", "device_type"),
    [
        (
            f"{WINDOWS} {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
            "Chrome 131",
            "Windows ",
            "desktop",
        ),
        (
            f"{WINDOWS} {WEBKIT} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
            "Edge 131",
            "Windows ",
            "desktop",
        ),
        (
            f"{WINDOWS} {WEBKIT} Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0",
            "Opera 116",
            "Windows ",
            "desktop",
        ),
        (
            "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)",
            "Internet Explorer 8",
            "Windows 7",
            "desktop",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/18.1 Safari/605.1.15",
            "Safari 18.1",
            "macOS ",
            "desktop",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14.7; rv:133.0) Gecko/20100101 Firefox/133.0",
            "Firefox 133",
            "macOS 14.7",
            "desktop",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "Firefox 128",
            "Linux ",
            "desktop",
        ),
        (
            f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
            "Chrome 131",
            "ChromeOS ",
            "desktop",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/131.0.0.0 Mobile Safari/537.36",
            "Chrome 131",
            "Android ",
            "mobile",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14; SM-X910) {WEBKIT} SamsungBrowser/27.0 Chrome/125.0 Safari",
            "Samsung Internet 27",
            "Android 14",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
            "Firefox 133",
            "Android 14",
            "mobile",
        ),
        (
            f"{IPHONE} {APPLE} Version/18.1 Mobile/15E148 Safari/604.1",
            "Safari 18.1",
            "iOS 18.1",
            "mobile",
        ),
        (
            f"{IPHONE} {APPLE} CriOS/131.0.6778.73 Mobile/15E148 Safari",
            "Chrome 131",
            "iOS 18.1",
            "mobile",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {APPLE} Mobile/15E148",
            "Safari ",
            "iOS 18",
            "mobile",
        ),
        (
            f"Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) {APPLE} FxiOS/133.0 Mobile/15E148",
            "Firefox 133",
            "iPadOS 17.6",
            "tablet",
        ),
        (
            f"Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
            "Chrome 94",
            "webOS ",
            "tv",
        ),
        (
            f"Mozilla/5.0 (PlayStation; PlayStation 5/9.00) {APPLE} Version/17.0 Safari/605.1.15",
            "Safari 17",
            "PlayStation 5 9.00",
            "console",
        ),
        (
            f"Mozilla/5.0 (PlayStation; PlayStation 4/11.50) {APPLE} Version/13.0 Safari/605.1.15",
            "Safari 13",
            "PlayStation 4 11.50",
            "console",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} GSA/340.3.699574017 Mobile/15E148 "
            "Safari/604.1",
            "Google 340.3",
            "iPadOS ",
            "tablet",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Slack_SSB/4.29.149 "
            "Chrome/106.0.5249.199 Electron/21.4.4 Safari/537.36",
            "Slack 4.29",
            "macOS ",
            "desktop",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 10; HarmonyOS; NOH-AN00; HMSCore 6.6.0.312) {WEBKIT} "
            "Chrome/92.0.4515.105 HuaweiBrowser/12.1.0.303 Mobile Safari/537.36",
            "Huawei Browser 12.1",
            "HarmonyOS ",
            "mobile",
        ),
        (
            "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/606.4 (KHTML, like Gecko) "
            "NF/6.0.1.15.4 NintendoBrowser/5.1.0.20393",
            " ",
            "Nintendo Switch ",
            "console",
        ),
        # What follows does not belong to AFTMM, which is a Fire TV.
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0 after/1",
            "Firefox 128",
            "Linux ",
            "desktop",
        ),
    ],
)
def test_a_browser_is_named_as_people_name_it(
    user_agent: str, browser: str, system: str, device_type: str
) -> None:
    found = describe(user_agent)
    assert f"{found.browser} {found.browser_version}" == browser
    assert f"{found.os} {found.os_version}" == system
    assert found.device_type == device_type
    assert found.user_agent == user_agent


@pytest.mark.parametrize(
    ("user_agent", "name", "version"),
    [
        ("grpc-python/1.80", "grpc-python", "1.80"),
        ("grpc-python-asyncio/1.80.0 grpc-c/50.0.0 (linux; chttp2)", "grpc-python-asyncio", "1.80"),
        ("grpc-go/1.60.0", "grpc-go", "1.60"),
        ("grpc-c++/1.60.0 grpc-c/50.0.0 (linux; chttp2)", "grpc-c++", "1.60"),
        ("curl/8.5.0", "curl", "8.5"),
        ("Wget/1.21.4", "Wget", "1.21"),
        ("python-requests/2.31", "python-requests", "2.31"),
        ("Python/3.11 aiohttp/3.9.1", "aiohttp", "3.9"),
        ("Python/3.11", "Python", "3.11"),
        ("okhttp/4", "okhttp", "4"),
        ("Go-http-client/2.0", "Go-http-client", "2"),
        ("PostmanRuntime/7.43.0", "PostmanRuntime", "7.43"),
        ("acme-cli/1.2.3-beta+4 (linux) grpc-go/1.60.0", "acme-cli", "1.2"),
        ("acme_cli/v2.0", "acme_cli", "2"),
    ],
)
def test_what_is_no_browser_is_a_program(user_agent: str, name: str, version: str) -> None:
    assert describe(user_agent) == Device(name, version, "", "", DeviceType.PROGRAM, user_agent)


@pytest.mark.parametrize(
    ("user_agent", "name", "version"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", "2.1"),
        (
            f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {WEBKIT} Chrome/131.0.0.0 Mobile Safari/537.36 "
            "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Googlebot",
            "2.1",
        ),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Slackbot-LinkExpanding", "1"),
        ("deploy-bot/1.2 grpc-go/1.60.0", "deploy-bot", "1.2"),
    ],
)
def test_a_bot_is_one_whatever_it_plays(user_agent: str, name: str, version: str) -> None:
    assert describe(user_agent) == Device(name, version, "", "", DeviceType.BOT, user_agent)


def test_a_phone_whose_maker_ends_in_bot_is_none() -> None:
    agent = f"Mozilla/5.0 (Linux; Android 13; CUBOT X70) {WEBKIT} Chrome/131.0.0.0 Mobile Safari/537.36"
    assert describe(agent).device_type == DeviceType.MOBILE


def test_an_app_tells_the_phone_that_it_runs_on() -> None:
    agent = "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A)"
    assert describe(agent) == Device("Dalvik", "2.1", "Android", "14", DeviceType.MOBILE, agent)


@pytest.mark.parametrize(
    ("user_agent", "program", "system", "device_type"),
    [
        ("My App 1.2 (iPhone; iOS 18.5)", "My App 1.2", "iOS 18.5", "mobile"),
        ("Instagram 340.1.0.21 (iPhone12,5; iOS 14_1; scale=3.00)", "Instagram 340.1", "iOS 14.1", "mobile"),
        ("Instagram 340.1.0.21 Android (34/14; 480dpi)", "Instagram 340.1", "Android ", "mobile"),
        ("Dolphin http client/11.3.3(457) (Android)", "Dolphin http client 11.3", "Android ", "mobile"),
        ("Android Studio/2024.1", "Android Studio 2024.1", " ", "program"),
        (f"{'n' * 64}/1.0", f"{'n' * 64} 1", " ", "program"),
        # Too long for a name.
        (f"{'n' * 65}/1.0 (Android 14)", " ", "Android 14", "mobile"),
        # The user agent of an app that contains no browser.
        ("[FBAN/FBIOS;FBAV/283.0.0.44.117] Safari/604.1 (iPhone; iOS 18.5)", " ", "iOS 18.5", "mobile"),
    ],
)
def test_an_app_is_called_by_all_of_its_name(
    user_agent: str, program: str, system: str, device_type: str
) -> None:
    found = describe(user_agent)
    assert f"{found.browser} {found.browser_version}" == program
    assert f"{found.os} {found.os_version}" == system
    assert found.device_type == device_type


@pytest.mark.parametrize("user_agent", ["My App/1.0 (iPhone; iOS 18.5)", "AppleTV11,1/11.1", "[FBAN/FBIOS]"])
def test_no_browser_is_looked_for_in_what_is_none(user_agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def browser(agent: object) -> None:
        raise AssertionError(agent)

    monkeypatch.setattr(device, "_browser", browser)
    # It is described for the first time, since no other test has it.
    describe(f"{user_agent} unheard/of")


def test_nothing_says_nothing() -> None:
    assert describe("") == describe(" \t\n") == Device()


@pytest.mark.parametrize("user_agent", ["Mozilla/5.0", "hello world", "/", "1/2", "(((((", "💻"])
def test_what_nobody_knows_is_only_repeated(user_agent: str) -> None:
    assert describe(user_agent) == Device(user_agent=user_agent)


def test_what_is_kept_can_be_shown_and_sent() -> None:
    """No control characters, no lone surrogates, no changes of direction, nothing long."""
    assert describe("curl/8.5\r\nlog: forged\x00").user_agent == "curl/8.5 log: forged"
    assert describe("a\ud800b\u202ec").user_agent == "a b c"
    assert describe("x" * 8192).user_agent == "x" * AGENT_LENGTH


def test_as_much_of_an_agent_is_described_as_is_kept() -> None:
    """When a session is created, and when it is verified."""
    agent = "x" * 8192
    assert describe(agent).user_agent == shortened(agent) == noted(agent) == "x" * AGENT_LENGTH


@pytest.mark.parametrize(
    "piece",
    ["Mozilla/5.0 ", "Android ", "a/1 ", "(", "; ", " ", "1.", "\u202e", "\ud800", "é", "bot", "Python/3 "],
)
def test_no_repetition_is_too_much(piece: str) -> None:
    """No input takes long: pytest names a test that hangs."""
    for prefix in ("", "Mozilla/5.0 (", "Opera/9.80 ("):
        assert len(describe(prefix + piece * (8192 // len(piece))).user_agent) <= AGENT_LENGTH


@given(st.text(st.characters(), max_size=600), st.sampled_from(["", "Mozilla/5.0 (Linux; Android 1", "a/1"]))
def test_no_text_raises(text: str, prefix: str) -> None:
    found = describe(prefix + text)
    assert not any(
        fault(word)
        for word in (found.browser, found.browser_version, found.os, found.os_version, found.user_agent)
    )
    found.user_agent.encode()


def test_the_expressions_are_those_in_rust_and_loaded_once() -> None:
    device.warm()
    resolver = device._resolver()
    assert isinstance(resolver, Resolver)
    describe("Mozilla/5.0 (X11; Linux x86_64; rv:1.0) Gecko/20100101 Firefox/1.0")
    assert device._resolver() is resolver
    assert device._resolver.cache_info().misses == 1


def test_what_is_remembered_is_bounded() -> None:
    assert device._describe.cache_info().maxsize == 2000
