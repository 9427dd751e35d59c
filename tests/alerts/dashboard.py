"""The dashboard for Grafana, and the queries in it and in the rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# What Grafana puts into queries. `.*` is the value of "All".
_VARIABLES = {
    "$namespace": ".*",
    "$job": ".*",
    "$instance": ".*",
    "$__rate_interval": "1m",
    "$__interval": "1m",
}
_SELECTOR = re.compile(r"\b((?:authsvc_|process_)\w+|\w+:\w+:\w+)(\{[^}]*\})?")


def dashboard(checkout: Path) -> dict[str, Any]:
    """Return the dashboard."""
    text = (checkout / "deploy/grafana/dashboards/authsvc.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def filled(query: str) -> str:
    """Return a query with the variables of Grafana replaced."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return query


def queries_of(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the queries of a dashboard, each with the title of its panel."""
    for panel in found["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], filled(target["expr"])
    for annotation in found["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], filled(annotation["expr"])


def selectors(query: str) -> set[str]:
    """Return the selectors in a query, without ranges."""
    # Labels that are grouped or matched by have no braces and another form.
    return {"".join(found) for found in _SELECTOR.findall(query)}


def rules_of(checkout: Path) -> list[dict[str, Any]]:
    """Return all rules."""
    groups = yaml.safe_load((checkout / "deploy/prometheus/rules.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]
