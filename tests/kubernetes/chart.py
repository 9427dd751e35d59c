"""Renders the chart."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.tools import CHECKOUT, tool

CHART = CHECKOUT / "deploy/helm/authsvc"
#: Values files by their names: minimal, full, mesh.
VALUES = {
    path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
Object = dict[str, Any]
#: `--set` for the resources of operators.
OPERATORS = (
    "metrics.serviceMonitor.enabled=true",
    f"metrics.prometheusRule.enabled={str((CHART / 'rules.yaml').exists()).lower()}",
)


class ChartError(Exception):
    """Helm refuses the values."""


def helm(*arguments: str | Path) -> str:
    """Run helm and return its output. Raises ChartError."""
    done = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise ChartError(done.stderr)
    return done.stdout


def rendered(
    *values: str,
    given: Sequence[str] = (),
    release: str = "authsvc",
    namespace: str = "shop",
    as_text: bool = False,
) -> str:
    """Return the objects as text, for values files by their names and `--set` of what is given.

    With `as_text` what is given are strings, whatever they look like.
    """
    files = [argument for name in values for argument in ("--values", VALUES[name])]
    option = "--set-string" if as_text else "--set"
    sets = [argument for each in given for argument in (option, each)]
    return helm("template", release, CHART, "--namespace", namespace, *files, *sets)


def objects(text: str) -> list[Object]:
    """Return the objects of a text."""
    return [each for each in yaml.safe_load_all(text) if each]


def only(found: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of this kind, and name if it is given."""
    [one] = [each for each in found if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return one


def pod_of(each: Object) -> Object:
    """Return the pod's spec of a Deployment or a Job."""
    spec: Object = each["spec"]["template"]["spec"]
    return spec


def container_of(each: Object) -> Object:
    """Return its one container."""
    [container] = pod_of(each)["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(each: Object, secrets: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Return the variables of its container, as a kubelet sets them: with the values of these Secrets."""
    found = {}
    for variable in container_of(each)["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            source = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = secrets[source["name"], source["key"]]
    return found
