"""The dashboard: each panel says what it shows, in a unit, for what is chosen, and at its place."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.dashboard import dashboard, queries_of, selectors

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
# What fits on a screen of 1080 lines, in units of the grid.
_SCREEN = 18
# Counts of what exists. Their last value is what matters.
_WHOLE_JOBS = re.compile(r"job:|ALERTS")


@pytest.fixture
def board(checkout: Path) -> dict[str, Any]:
    return dashboard(checkout)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_each_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    """Title, description, unit, legend and data source; no title and no id is there twice."""
    for panel in panels(board):
        name = panel["title"]
        assert panel["description"].endswith("."), name
        assert panel["datasource"] == _SOURCE, name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        for target in panel["targets"]:
            assert target["datasource"] == _SOURCE, name
            assert target["legendFormat"], name
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), name
    titles = [panel["title"] for panel in board["panels"]]
    assert sorted(set(titles)) == sorted(titles)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    """Each place of the grid has one panel at most; the first screen has no row and no gap."""
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= _COLUMNS, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"], (x, y)
    first = {taken.get((x, y)) for x in range(_COLUMNS) for y in range(_SCREEN)}
    assert None not in first
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    assert rows[0]["gridPos"]["y"] == _SCREEN


def test_queries_are_about_what_is_chosen(board: dict[str, Any]) -> None:
    """Each selector has the variables, and each rate the interval that fits the scrapes."""
    for panel in panels(board):
        for target in panel["targets"]:
            expr = target["expr"]
            for selector in selectors(expr):
                assert 'job=~"$job"' in selector, (panel["title"], selector)
                assert 'namespace=~"$namespace"' in selector, (panel["title"], selector)
                assert 'instance=~"$instance"' in selector or _WHOLE_JOBS.search(selector), selector
            assert not re.search(r"rate\([^)]*\[(?!\$__rate_interval)", expr), (panel["title"], expr)
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "namespace", "job", "instance"]
    for variable in board["templating"]["list"][1:]:
        assert (variable["allValue"], variable["includeAll"]) == (".*", True)


def test_the_first_screen_has_what_matters_most(board: dict[str, Any]) -> None:
    """The objectives, the rate, errors, latency, the lease and the barrier."""
    first = {panel["title"] for panel in panels(board) if panel["gridPos"]["y"] < _SCREEN}
    shown = " ".join(query for title, query in queries_of(board) if title in first)
    for metric in (
        "job:authsvc_verification_errors:ratio30d",
        "job:authsvc_slow_verifications:ratio30d",
        "authsvc_ready",
        "authsvc_rpc_seconds_count",
        "authsvc_rpc_errors_total",
        "authsvc_rpc_seconds_bucket",
        "authsvc_lease_seconds",
        "authsvc_barrier_wait_seconds_bucket",
        "ALERTS",
    ):
        assert metric in shown, metric


def test_grafana_finds_the_dashboard(checkout: Path) -> None:
    """By the two files for its provisioning, which have the form that it reads."""
    directory = checkout / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((directory / "datasources.yaml").read_text("utf-8"))["datasources"]
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    [provider] = yaml.safe_load((directory / "dashboards.yaml").read_text("utf-8"))["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")
