"""kubeconform: each object fits the schemas of the oldest and the newest version of Kubernetes."""

import subprocess

import pytest

from tests.kubernetes.chart import OPERATORS, VALUES, rendered
from tests.kubernetes.schemas import VERSIONS
from tests.kubernetes.tools import CHECKOUT, schemas, tool

_DEPLOY = CHECKOUT / "deploy/kubernetes"
_FILES = ("base/namespace.yaml", "base/authsvc.yaml", "examples/cert-manager.yaml")


def conforms(text: str, version: str, *options: str) -> None:
    """Fail with what kubeconform says."""
    directory = schemas()
    command = [
        tool("kubeconform"),
        *("-strict", "-summary", "-kubernetes-version", version, *options),
        *("-schema-location", f"{directory}/v{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"),
        *(
            "-schema-location",
            f"{directory}/operators/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
        ),
        "-",
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_conforms(version: str) -> None:
    """What the chart renders for each values file, the manifests, and the example for cert-manager."""
    files = [(_DEPLOY / file).read_text("utf-8") for file in _FILES]
    conforms("\n---\n".join([*(rendered(values, given=OPERATORS) for values in VALUES), *files]), version)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("Deployment", "replicas: 2", "replica: 2"),
        ("ServiceMonitor", "port: admin", "portt: admin"),
        ("Job", "kind: Job", "kind: Jobs"),
    ],
)
def test_what_is_wrong_is_found(kind: str, before: str, after: str) -> None:
    """An unknown field, also of an operator's resource, and an unknown kind."""
    [text, *_] = [
        each for each in rendered("minimal", given=OPERATORS).split("\n---\n") if f"\nkind: {kind}\n" in each
    ]
    conforms(text, VERSIONS[-1])
    assert before in text
    with pytest.raises(AssertionError):
        conforms(text.replace(before, after), VERSIONS[-1])


def test_the_schemas_are_there() -> None:
    """Of Kubernetes, and of the operators whose resources the chart and the examples have."""
    directory = schemas()
    for version in VERSIONS:
        assert (directory / f"v{version}/deployment-apps-v1.json").exists()
    kinds = {path.name for path in (directory / "operators").iterdir()}
    assert {
        "servicemonitor_v1.json",
        "prometheusrule_v1.json",
        "certificate_v1.json",
        "issuer_v1.json",
    } <= kinds
