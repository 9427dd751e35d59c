"""The account page: three devices sign in, are listed, and are logged out (rules 24 to 26)."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from authsvc import app
from authsvc.app.background import run_forever
from authsvc.config.settings import ConfigError, load_settings
from tests.conftest import Clock, Service, serving
from tests.mmdb import encode
from tests.rpc.test_sessions import FIREFOX, SAFARI, code_of, sign_in

CURL = "curl/8.5.0"
NESTED = {
    "81.2.69.0/24": {
        "city": {"names": {"en": "London"}},
        "subdivisions": [{"names": {"en": "England"}, "iso_code": "ENG"}],
        "country": {"iso_code": "GB"},
    },
}
FLAT = {"2001:67c::/32": {"city": "Zürich", "state1": "Zurich", "country_code": "CH"}}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Two location files: IPv4 in MaxMind's format, IPv6 in the flat format."""
    four, six = tmp_path / "four.mmdb", tmp_path / "six.mmdb"
    four.write_bytes(encode(NESTED, ip_version=4))
    six.write_bytes(encode(FLAT))
    return four, six


def shown(session: Any) -> tuple[str, ...]:
    """Return what the account page shows for a session."""
    device, place = session.device, session.location
    return (
        f"{device.browser} {device.browser_version}",
        f"{device.os} {device.os_version}".strip(),
        device.device_type,
        ", ".join(filter(None, (place.city, place.region, place.country_code))),
        "current" if session.current else "",
    )


async def test_the_story_of_the_account_page(
    database_url: str, clock: Clock, places: tuple[Path, Path]
) -> None:  # rules 24, 25, 26
    """Three logins, a list, one logout, all verified, all logged out."""
    async with serving(database_url, clock, geoip_db=places) as service:
        laptop = await sign_in(service, user_agent=FIREFOX, ip_address="81.2.69.142")
        clock.advance(hours=1)
        phone = await sign_in(service, user_agent=SAFARI, ip_address="2001:67c::5")
        clock.advance(hours=1)
        script = await sign_in(service, user_agent=CURL, ip_address="10.0.0.1")
        current = laptop.session.session_id
        listed = await service.admin.ListSessions(owner_id="alice", current_session_id=current)
        assert [shown(session) for session in listed.sessions] == [
            ("curl 8.5", "", "program", "", ""),
            ("Safari 17.5", "iOS 17.5", "mobile", "Zürich, Zurich, CH", ""),
            ("Firefox 132", "Linux", "desktop", "London, England, GB", "current"),
        ]
        await service.admin.RevokeSession(session_id=phone.session.session_id)
        tokens = [made.session_token for made in (laptop, phone, script)]
        assert [await code_of(service, token) for token in tokens] == ["VALID", "REVOKED", "VALID"]
        assert (await service.admin.RevokeAllSessions(owner_id="alice")).revoked_count == 2
        assert [await code_of(service, token) for token in tokens] == ["REVOKED"] * 3
        assert not (await service.admin.ListSessions(owner_id="alice")).sessions


async def test_a_newer_file_is_taken_without_a_restart(
    database_url: str, clock: Clock, places: tuple[Path, Path]
) -> None:
    """The location of a session follows the file."""
    four, _ = places
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise StopAsyncIteration

    async with serving(database_url, clock, geoip_db=(four,)) as service:
        made = await sign_in(service, ip_address="81.2.69.142")
        assert made.session.location.city == "London"
        fresh = four.with_suffix(".new")
        fresh.write_bytes(encode({"81.2.69.0/24": {"city": "Leeds", "country_code": "GB"}}, ip_version=4))
        fresh.replace(four)
        with pytest.raises((StopAsyncIteration, RuntimeError)):
            await run_forever(service.app.locations.look, look, "looking")
        session = await service.admin.GetSession(session_id=made.session.session_id)
        assert session.location.city == "Leeds"


@pytest.mark.parametrize("content", [None, b"", b"no places here"])
async def test_a_bad_file_stops_the_start(
    database_url: str, service: Service, tmp_path: Path, content: bytes | None
) -> None:
    """A missing, empty or invalid file: the error names the setting and the file."""
    file = tmp_path / "bad.mmdb"
    if content is not None:
        file.write_bytes(content)
    settings = load_settings(database_url=SecretStr(database_url), geoip_db=(file,))
    with pytest.raises(ConfigError, match=r"^AUTHSVC_GEOIP_DB: .*bad\.mmdb"):
        async with app.running(settings):
            pass
