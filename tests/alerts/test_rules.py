"""The rules for Prometheus: promtool accepts them, each alert fires when it should, and has its runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.cases import CASES, Series

_RUNBOOK = "https://github.com/authsvc/authsvc/blob/main/docs/alerts.md"
# It is about the absence of everything, and has a test of its own.
_ABSENT = "AuthsvcAbsent"


@pytest.fixture
def promtool() -> str:
    if (found := shutil.which("promtool")) is None:
        pytest.skip("no promtool: Debian package prometheus")
    return found


@pytest.fixture
def rules(checkout: Path) -> Path:
    return checkout / "deploy/prometheus/rules.yaml"


@pytest.fixture
def alerts(rules: Path) -> dict[str, Any]:
    """The alerts by name."""
    groups = yaml.safe_load(rules.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def run(promtool: str, *arguments: str | Path) -> str:
    """Run promtool; return its output. It must have no complaint."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules(promtool: str, rules: Path) -> None:
    """With all of its lints, which find duplicates."""
    assert "SUCCESS" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", rules)


def test_each_alert_is_tried(alerts: dict[str, Any]) -> None:
    """With one case that fires and one that does not; no case is of an alert that is gone."""
    assert sorted([case.alert for case in CASES] + [_ABSENT]) == sorted(alerts)


def labelled(series: Series, job: str) -> Iterator[dict[str, str]]:
    for name, values in series.items():
        metric, _, labels = name.partition("{")
        labels = ", ".join(filter(None, [f'job="{job}"', labels.removesuffix("}")]))
        yield {"series": f"{metric}{{{labels}}}", "values": values}


def firing(alert: str, job: str, *, fires: bool, at: str) -> dict[str, Any]:
    asked = f'count(ALERTS{{alertname="{alert}", alertstate="firing", job="{job}"}}) > bool 0 or vector(0)'
    return {"expr": asked, "eval_time": at, "exp_samples": [{"labels": "{}", "value": int(fires)}]}


def tried(promtool: str, rules: Path, directory: Path, tests: list[dict[str, Any]]) -> None:
    groups = [group["name"] for group in yaml.safe_load(rules.read_text("utf-8"))["groups"]]
    # Otherwise promtool evaluates them in any order, and what alerts see may be a minute old.
    given = {"rule_files": [str(rules)], "group_eval_order": groups, "evaluation_interval": "1m"}
    file = directory / "tests.json"  # which is YAML
    file.write_text(json.dumps({**given, "tests": tests}), "utf-8")
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_alerts_fire_when_they_should(promtool: str, rules: Path, tmp_path: Path) -> None:
    """Each with the series of its case, and not with those of its counter-case."""
    inputs = [
        each
        for case in CASES
        for job, series in ((f"{case.alert} fires", case.fires), (f"{case.alert} quiet", case.quiet))
        for each in labelled(series, job)
    ]
    asked = [
        firing(case.alert, f"{case.alert} {word}", fires=word == "fires", at="90m")
        for case in CASES
        for word in ("fires", "quiet")
    ]
    tried(promtool, rules, tmp_path, [{"interval": "1m", "input_series": inputs, "promql_expr_test": asked}])


def test_nothing_to_scrape(promtool: str, rules: Path, tmp_path: Path) -> None:
    """Without any series of authsvc, and not with one of them."""
    query = f'count(ALERTS{{alertname="{_ABSENT}", alertstate="firing"}}) or vector(0)'
    tried(
        promtool,
        rules,
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": "1x20"}],
                "promql_expr_test": [
                    {"expr": query, "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": fires}]}
                ],
            }
            for series, fires in (("up", 1), ('authsvc_up{worker="0"}', 0))
        ],
    )


def test_a_burn_ends_soon_after_its_fault(promtool: str, rules: Path, tmp_path: Path) -> None:
    """An outage of ten minutes: it fires after seven, and no more when the last half an hour was good."""
    errors = 'authsvc_rpc_errors_total{method="VerifyKey", code="UNAVAILABLE", job="a"}'
    series = [
        {"series": errors, "values": "0x60 0+30000x10 300000x120"},
        {"series": 'authsvc_rpc_seconds_count{method="VerifyKey", job="a"}', "values": "0+60000x190"},
        {"series": 'authsvc_gateway_undecided_total{job="a"}', "values": "0x190"},
    ]
    alert = "AuthsvcErrorBudgetBurnsFast"
    asked = [
        firing(alert, "a", fires=fires, at=at)
        for at, fires in (("60m", False), ("67m", True), ("115m", False))
    ]
    tried(
        promtool,
        rules,
        tmp_path,
        [{"interval": "1m", "input_series": series, "promql_expr_test": asked}],
    )


def test_what_an_alert_says(promtool: str, rules: Path, alerts: dict[str, Any], tmp_path: Path) -> None:
    """Its text has the worker, and the value as people read it."""
    labels = {"worker": "0", "instance": "a:9090", "job": "authsvc"}
    expected = {
        "exp_labels": {**labels, "severity": "warning"},
        "exp_annotations": {
            "summary": "Worker 0 of a:9090 cannot renew its lease",
            "description": "It may answer from memory for another 12s. Usually more than nine tenths of "
            "the lease are left.",
            "runbook_url": alerts["AuthsvcLeaseLow"]["annotations"]["runbook_url"],
        },
    }
    text = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    series = [
        {"series": f"authsvc_lease_seconds{{{text}}}", "values": "12x5"},
        {"series": f"authsvc_lease_length_seconds{{{text}}}", "values": "30x5"},
    ]
    look = {"eval_time": "2m", "alertname": "AuthsvcLeaseLow", "exp_alerts": [expected]}
    tried(promtool, rules, tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": [look]}])


def test_each_alert_has_its_section(alerts: dict[str, Any], checkout: Path) -> None:
    """docs/alerts.md has one for each alert and no other, and the alert leads to it."""
    text = (checkout / "docs/alerts.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (Authsvc\w+)\n(.*?)(?=^##)", f"{text}\n## ", re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"{_RUNBOOK}#{name.lower()}"
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        words = re.findall(r"^- \*\*(\w+)\.\*\* \S", sections[name], re.MULTILINE)
        assert words == ["Meaning", "Impact", "See", "Do"], name
