"""The descriptions of the user agents in `user_agents.csv`.

`source` is where the string is from, or the format that it follows: mostly the page of its vendor, or a file
of test data (of uap-core, or by its address). The expected values are what a person who knows the device
would say.
"""

import csv
import re
from pathlib import Path

import pytest

from authsvc.sessions.device import describe

_SOURCE = re.compile(r"https://[a-z0-9.-]+\.[a-z]+/.*|uap-core, tests/\w+\.yaml")
_FILE = Path(__file__).with_name("user_agents.csv")
with _FILE.open(encoding="utf-8", newline="") as _lines:
    AGENTS = list(csv.DictReader(_lines, delimiter="|", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent["user_agent"][:80])
def test_a_device_is_what_it_is(agent: dict[str, str]) -> None:
    """Names, versions and the kind of device, all of them."""
    found = describe(agent["user_agent"])
    assert {
        "browser": found.browser,
        "version": found.browser_version,
        "os": found.os,
        "os_version": found.os_version,
        "device_type": found.device_type,
    } == {name: agent[name] for name in ("browser", "version", "os", "os_version", "device_type")}


def test_the_table_is_long_enough() -> None:
    """Each agent once, each with a source that can be looked up: a page, or a file of test data."""
    assert len({agent["user_agent"] for agent in AGENTS}) == len(AGENTS) >= 150
    assert [agent for agent in AGENTS if _SOURCE.fullmatch(agent["source"]) is None] == []
