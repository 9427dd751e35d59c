"""The locations of addresses, and what happens to the files that contain them."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from authsvc.app.background import run_forever
from authsvc.config.settings import ConfigError
from authsvc.model.location import Location
from authsvc.sessions.locations import Locations
from tests.addresses import ADDRESSES
from tests.mmdb import encode

OSLO = {"city": "Oslo", "state1": "Oslo County", "country_code": "NO", "latitude": 59.9, "timezone": ""}
BERGEN = {**OSLO, "city": "Bergen", "state1": "Vestland"}
LONDON = {
    "city": {"geoname_id": 2643743, "names": {"de": "London", "en": "London"}},
    "country": {"is_in_european_union": False, "iso_code": "GB", "names": {"en": "United Kingdom"}},
    "location": {"latitude": 51.5, "longitude": -0.1},
    "registered_country": {"iso_code": "US"},
    "subdivisions": [
        {"iso_code": "ENG", "names": {"en": "England"}},
        {"names": {"en": "A borough of it that nobody asked for"}},
    ],
}
IN_OSLO = Location("Oslo", "Oslo County", "NO")
IN_LONDON = Location("London", "England", "GB")


def write(path: Path, records: Mapping[str, object], *, ip_version: int = 6) -> Path:
    """Install a file by replacing the old one, as recommended; return its path."""
    return put(path, encode(records, ip_version=ip_version))


def put(path: Path, content: bytes) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    return fresh.replace(path)


class Ticks:
    """Ticks that the test triggers; each returns when the check after it is over."""

    def __init__(self) -> None:
        self._due = asyncio.Semaphore(0)
        self._waiting = asyncio.Semaphore(0)

    async def __call__(self) -> None:
        self._waiting.release()
        await self._due.acquire()

    async def give(self) -> None:
        await self._waiting.acquire()
        self._due.release()
        await self._waiting.acquire()
        self._waiting.release()


@pytest.mark.parametrize("record_size", [24, 28, 32])
def test_a_file_of_either_form_is_read(tmp_path: Path, record_size: int) -> None:
    path = tmp_path / "city.mmdb"
    records = {"1.2.3.0/24": OSLO, "81.2.69.0/24": LONDON, "2001:db8::/32": LONDON}
    path.write_bytes(encode(records, record_size=record_size))
    locations = Locations([path])
    assert locations.find("1.2.3.4") == IN_OSLO
    assert locations.find("81.2.69.142") == IN_LONDON
    assert locations.find("2001:db8::1") == IN_LONDON
    assert locations.find("2001:db8::1%eth0") == IN_LONDON
    assert locations.find("::ffff:1.2.3.4") == IN_OSLO
    locations.close()


@pytest.mark.parametrize(("text", "kept"), ADDRESSES)
def test_an_address_is_found_however_it_is_written(tmp_path: Path, text: str, kept: str) -> None:
    records = {"203.0.113.0/24": OSLO, "1.2.3.0/24": OSLO, "2000::/3": LONDON}
    locations = Locations([write(tmp_path / "city.mmdb", records)])
    places = {
        "203.0.113.7": IN_OSLO,
        **{text: IN_LONDON for _, text in ADDRESSES if text.startswith("2001:")},
    }
    assert locations.find(text) == places.get(kept, Location())
    assert locations.find("1.2.3.4:80") == IN_OSLO
    locations.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "1.2.3",
        "1.2.3.4/32",
        "10.0.0.1",
        "127.0.0.1",
        "::1",
        "::",
        "9" * 9999,
        "\ud800",
    ],
)
def test_what_is_no_known_address_is_nowhere(tmp_path: Path, address: str) -> None:
    assert Locations([write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})]).find(address) == Location()


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"registered_country": {"iso_code": "no"}}, Location(country_code="NO")),
        ({"country": "NO"}, Location(country_code="NO")),
        ({"country": "Norway", "country_code": "NO"}, Location(country_code="NO")),
        ({"city": {"names": {"nb": "Oslo"}}, "subdivisions": []}, Location()),
        ({"city": 7, "state1": [], "country_code": {}}, Location()),
        ({"city": "Os\u202elo\u2028"}, Location(city="Os lo ")),
        ({"city": 200 * "x", "state1": 200 * "y"}, Location(city=128 * "x", region=128 * "y")),
        ({"city": {"names": "Oslo"}, "subdivisions": [7], "country": {"iso_code": 1}}, Location()),
    ],
)
def test_a_record_says_what_it_can(tmp_path: Path, record: object, place: Location) -> None:
    assert Locations([write(tmp_path / "city.mmdb", {"1.2.3.0/24": record})]).find("1.2.3.4") == place


def test_the_first_file_that_knows_is_believed(tmp_path: Path) -> None:
    locations = Locations(
        [
            write(tmp_path / "4.mmdb", {"1.2.3.0/24": OSLO}, ip_version=4),
            write(tmp_path / "6.mmdb", {"2001:db8::/32": LONDON}),
            write(tmp_path / "country.mmdb", {"1.0.0.0/8": {"country_code": "SE"}}),
        ]
    )
    assert locations.find("1.2.3.4") == locations.find("::ffff:1.2.3.4") == IN_OSLO
    assert locations.find("2001:db8::1") == IN_LONDON
    assert locations.find("1.9.9.9") == Location(country_code="SE")
    assert locations.find("2.2.2.2") == Location()
    locations.close()
    assert locations.find("1.2.3.4") == Location()


async def test_without_files_there_is_nothing_to_do() -> None:
    locations = Locations(())
    assert locations.find("1.2.3.4") == Location()
    await locations.look()
    locations.close()


WHOLE = encode({"1.2.3.0/24": OSLO})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a complete MMDB file"),
        (b"PK\x03\x04 something packed" * 99, "not a complete MMDB file"),
        (WHOLE[: len(WHOLE) // 2], "not a complete MMDB file"),
        # The end exists and the beginning does not.
        (WHOLE[len(WHOLE) // 2 :], "download it again"),
        (
            encode({"1.2.3.0/24": {"autonomous_system_number": 64500}}, database_type="GeoLite2-ASN"),
            "'GeoLite2-ASN', which has no locations; use one",
        ),
        (encode({}), "no locations"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    good, bad = write(tmp_path / "good.mmdb", {"1.2.3.0/24": OSLO}), put(tmp_path / "bad.mmdb", content)
    with pytest.raises(ConfigError, match=words) as caught:
        Locations([good, bad])
    assert str(bad) in str(caught.value)


def test_a_path_that_leads_to_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    city = write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})
    for path, words in (
        (tmp_path / "missing.mmdb", "there is no file .*missing.mmdb; check the setting"),
        (city / "beyond", "there is no file"),
        (tmp_path, "is a directory; name the file itself"),
        (tmp_path / "pipe", "is not a regular file; name the file itself"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "\0", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            Locations([path])

    def refuse(*_: object) -> None:
        raise PermissionError

    # Not by the mode of the file: root can read everything.
    monkeypatch.setattr("maxminddb.open_database", refuse)
    with pytest.raises(ConfigError, match="may not be read; let the user"):
        Locations([city])


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the errors that were logged so far."""
    return lambda: [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def following(
    locations: Locations, test: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
) -> None:
    """Run a test while the files are checked at each of its ticks."""
    ticks = Ticks()
    task = asyncio.create_task(run_forever(locations.look, ticks, "looking"))
    try:
        await test(ticks.give)
    finally:
        task.cancel()
        locations.close()


async def test_a_new_file_is_taken_without_a_restart(tmp_path: Path) -> None:
    path = write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})
    locations = Locations([path])

    async def test(tick: Callable[[], Awaitable[None]]) -> None:
        await tick()
        assert locations.find("1.2.3.4") == IN_OSLO
        write(path, {"1.2.3.0/24": BERGEN})
        # The old one is read until the next check.
        assert locations.find("1.2.3.4") == IN_OSLO
        await tick()
        assert locations.find("1.2.3.4").city == "Bergen"

    await following(locations, test)


async def test_a_broken_file_is_told_once_and_the_old_one_stays(
    tmp_path: Path, errors: Callable[[], list[str]]
) -> None:
    path = write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})
    locations = Locations([path])

    async def test(tick: Callable[[], Awaitable[None]]) -> None:
        put(path, WHOLE[:50])
        await tick()
        await tick()
        path.unlink()
        await tick()
        assert locations.find("1.2.3.4") == IN_OSLO
        broken, gone = errors()
        assert broken.startswith(f"AUTHSVC_GEOIP_DB: {path} is not a complete MMDB file")
        assert gone.startswith(f"AUTHSVC_GEOIP_DB: there is no file {path}")
        assert all(
            told.endswith("; until this is corrected, the previous version is used")
            for told in (broken, gone)
        )
        write(path, {"1.2.3.0/24": BERGEN})
        await tick()
        assert locations.find("1.2.3.4").city == "Bergen"
        # And the next failure is reported again.
        path.unlink()
        await tick()
        assert len(errors()) == 3

    await following(locations, test)


async def test_the_same_file_that_comes_back_is_not_read_again(
    tmp_path: Path, errors: Callable[[], list[str]]
) -> None:
    path = write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})
    locations = Locations([path])

    async def test(tick: Callable[[], Awaitable[None]]) -> None:
        for times in (1, 2):
            path.rename(tmp_path / "aside")
            await tick()
            assert len(errors()) == times
            (tmp_path / "aside").rename(path)
            await tick()
            assert locations.find("1.2.3.4") == IN_OSLO

    await following(locations, test)


async def test_a_file_that_is_overwritten_in_place_is_left_alone(
    tmp_path: Path, errors: Callable[[], list[str]]
) -> None:
    """Reading the mapping of a truncated file would end the process."""
    path = write(tmp_path / "city.mmdb", {"1.2.3.0/24": OSLO})
    other = write(tmp_path / "other.mmdb", {"1.0.0.0/8": {"country_code": "NO"}})
    locations = Locations([path, other])

    async def test(tick: Callable[[], Awaitable[None]]) -> None:
        path.write_bytes(b"")
        assert locations.find("1.2.3.4") == Location(country_code="NO")
        await tick()
        assert locations.find("1.2.3.4") == Location(country_code="NO")
        [message] = errors()
        assert message.endswith("; until this is corrected, nothing in it is used")
        path.write_bytes(encode({"1.2.3.0/24": BERGEN}))
        await tick()
        assert locations.find("1.2.3.4").city == "Bergen"

    await following(locations, test)


def test_damage_deep_in_a_file_is_told_once(tmp_path: Path, errors: Callable[[], list[str]]) -> None:
    """Not everything is read at the start; an error found later only hides the location."""
    content = encode({"1.2.3.0/24": OSLO, "9.9.9.0/24": {"country_code": "SE", "city": "Malmø"}})
    path = put(tmp_path / "city.mmdb", content.replace("Malmø".encode(), b"Malm\xff\xff"))
    locations = Locations([path])
    for _ in range(2):
        assert locations.find("9.9.9.9") == Location()
    assert locations.find("1.2.3.4") == IN_OSLO
    [message] = errors()
    assert "damaged" in message
