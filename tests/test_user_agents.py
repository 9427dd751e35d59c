"""What the agents of `user_agents.csv` are said to be.

`source` is where the string stands, or the format that it follows: mostly the page of its vendor, or the test
data of uap-core. The expected values are what a person who knows the device would say.
"""

import csv
from pathlib import Path

import pytest

from authsvc.device import describe

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
    """Each agent once, each with its source."""
    assert len({agent["user_agent"] for agent in AGENTS}) == len(AGENTS) >= 150
    assert all(agent["source"] for agent in AGENTS)
