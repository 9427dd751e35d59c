"""What client hints reveal about a device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model import client_hints
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.text import fault
from authsvc.sessions.device import describe

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36"
ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36"


def told(user_agent: str, **hints: str) -> tuple[str, str]:
    """Return the displayed system and its version."""
    found = describe(user_agent, ClientHints(**hints))
    return found.os, found.os_version


def test_windows_11_is_told_from_windows_10() -> None:
    """By Microsoft's table: 13 and above, 1 to 10, and earlier versions."""
    assert told(WINDOWS) == ("Windows", "")
    for hint, version in {
        '"15.0.0"': "11",
        '"13.0.0"': "11",
        '"10.0.0"': "10",
        '"0.3.0"': "8.1",
        '"0.1.0"': "7",
        "15.0.0": "11",
        '"rubbish"': "",
    }.items():
        assert told(WINDOWS, platform='"Windows"', platform_version=hint) == ("Windows", version)


def test_hints_are_believed_before_the_user_agent() -> None:
    """The version of the system, the model, the browser by its brand."""
    assert told(MAC, platform='"macOS"', platform_version='"15.1.0"') == ("macOS", "15.1")
    found = describe(
        ANDROID,
        ClientHints(
            brands='"Not)A;Brand";v="99.0.0.0", "Brave";v="131.1.2.3", "Chromium";v="131.0.6778.86"',
            platform='"Android"',
            platform_version='"15.0.0"',
            model='"Pixel 8"',
            mobile="?1",
        ),
    )
    assert (found.browser, found.browser_version, found.os, found.os_version) == (
        "Brave",
        "131.1",
        "Android",
        "15",
    )
    assert (found.model, found.device_type) == ("Pixel 8", "mobile")
    # An Android device that requests desktop pages.
    linux = f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36"
    found = describe(linux, ClientHints(platform='"Android"', platform_version='"14.0.0"', mobile="?0"))
    assert (found.os, found.os_version, found.device_type) == ("Android", "14", "tablet")
    assert describe(linux, ClientHints(form_factors='"Tablet"')).device_type == "tablet"


def test_what_hints_do_not_know_better_stays() -> None:
    """Brands of engines name no app; Linux distributions and bots keep their own name."""
    slack = f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Slack/4.41 Electron/33.2.1"
    assert describe(slack, ClientHints(brands='"Chromium";v="130", "Not?A_Brand";v="99"')).browser == "Slack"
    ubuntu = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
    assert told(ubuntu, platform='"Linux"', platform_version='"6.5.0"') == ("Ubuntu", "")
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    assert describe(bot, ClientHints(platform='"Windows"', model='"x"')) == describe(bot)


@pytest.mark.parametrize(
    "user_agent",
    [
        f"{WINDOWS} Edg/130.0.0.0 Teams/24295.605.3225.8804",
        f"{WINDOWS} AcmeDesk/2.3.1 Electron/32.2.7",
        "MyApp/2.3.1 (Android 14; Pixel 8)",
        "My App/2.3.1 (Android 14; Pixel 8) okhttp/4.12.0",
    ],
)
def test_an_app_keeps_its_name(user_agent: str) -> None:
    """Hints name the browser inside; their system is used."""
    edge = '"Microsoft Edge";v="130", "Microsoft Edge WebView2";v="130", "Chromium";v="130"'
    before, found = describe(user_agent), describe(user_agent, ClientHints(brands=edge, model='"X"'))
    assert (found.browser, found.browser_version) == (before.browser, before.browser_version)
    assert found.browser not in ("", "Edge")
    assert found.model == "X"
    # If no app is named, it is the browser's.
    for agent in ("", "hello world", WINDOWS):
        assert describe(agent, ClientHints(brands=edge)).browser == "Edge"


def test_what_is_not_sent_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty string is not processed; a stored one is not processed again for display."""
    looked: list[str] = []

    def redact(text: str) -> str:
        looked.append(text)
        return text

    monkeypatch.setattr(client_hints, "redact", redact)
    assert NO_HINTS.kept() == NO_HINTS
    assert looked == []
    hints = ClientHints(platform='"Windows"').kept()
    assert looked == ['"Windows"']
    describe(WINDOWS, hints)
    assert looked == ['"Windows"']


def test_hints_are_found_among_headers() -> None:
    """The full version list takes precedence over that of brands; nothing without either."""
    assert ClientHints.of_headers({"user-agent": "x"}) == NO_HINTS
    found = ClientHints.of_headers(
        {"sec-ch-ua": "a", "sec-ch-ua-full-version-list": "b", "sec-ch-ua-platform-version": '"15"'}
    )
    assert found == ClientHints(brands="b", platform_version='"15"')


def test_those_sent_later_are_added() -> None:
    """Browsers send some with each request, and others only on request."""
    before = ClientHints(platform='"Windows"', platform_version='"15.0.0"')
    assert before.updated(ClientHints(platform='"Windows"', mobile="?0")) == before._replace(mobile="?0")


@given(st.builds(ClientHints, *[st.text(st.characters(), max_size=300)] * 6))
def test_no_hints_raise(hints: ClientHints) -> None:
    """Whatever a client sends is truncated, can be stored, and is displayed without invisible characters."""
    kept = hints.kept()
    assert ClientHints.of_json(kept.as_json()) == kept
    assert all(not fault(text) and len(text) <= 256 for text in kept)
    found = describe(ANDROID, hints)
    for shown in (found.browser, found.browser_version, found.os, found.os_version, found.model):
        assert not fault(shown)
        shown.encode()
