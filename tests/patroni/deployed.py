"""The files of deploy/patroni, with what differs here: addresses, paths, passwords, shorter times.

Whatever is not replaced here is what an operator gets.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.patroni.lan import Machine

_DEPLOY = Path(__file__).parents[2] / "deploy" / "patroni"
PASSWORD = "patroni"
# Patroni requires loop_wait + 2 * retry_timeout <= ttl. Its defaults are 10, 10 and 30.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 8, 1, 3
PORT, REST_PORT, ETCD_PORT = 5432, 8008, 2379
MOST_LAG = 1 << 20


def patroni(node: Machine, etcd: Machine, programs: Path, *, synchronous: bool) -> dict[str, Any]:
    """Return the settings of a node; without `synchronous`, as Patroni is by default."""
    found: dict[str, Any] = yaml.safe_load((_DEPLOY / "patroni.yml").read_text("utf-8"))
    rest, server = f"{node.address}:{REST_PORT}", f"{node.address}:{PORT}"
    found["name"] = node.name
    found["restapi"] = {"listen": rest, "connect_address": rest}
    found["etcd3"] = {"hosts": [f"{etcd.address}:{ETCD_PORT}"]}
    dcs = found["bootstrap"]["dcs"]
    dcs |= {"ttl": TTL, "loop_wait": LOOP_WAIT, "retry_timeout": RETRY_TIMEOUT}
    assert dcs["maximum_lag_on_failover"] == MOST_LAG
    if not synchronous:
        dcs |= {"synchronous_mode": False, "synchronous_mode_strict": False}
    dcs["postgresql"]["parameters"]["shared_buffers"] = "16MB"
    postgres = found["postgresql"]
    postgres |= {
        "listen": server,
        "connect_address": server,
        "bin_dir": str(programs),
        "data_dir": str(node.home / "data"),
        "pgpass": str(node.home / "pgpass"),
    }
    for account in postgres["authentication"].values():
        account["password"] = PASSWORD
    # The account of the tests has no role of its name.
    postgres["pg_hba"] = [line for line in postgres["pg_hba"] if not line.startswith("local")]
    postgres["parameters"]["unix_socket_directories"] = str(node.home)
    found["watchdog"]["mode"] = "off"  # A machine of a test has no such device.
    return found


def haproxy(proxy: Machine, nodes: Sequence[Machine]) -> str:
    """Return the file of haproxy."""
    text = (_DEPLOY / "haproxy.cfg").read_text("utf-8")
    places = {"10.0.0.31": proxy.address}
    places |= {f"10.0.0.{11 + number}": node.address for number, node in enumerate(nodes)}
    return re.sub(r"\b10\.0\.0\.\d+\b", lambda found: places[found[0]], text)
