"""A real API server accepts every object, and lets the bootstrap Job do its work and nothing else."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import forks
from tests.e2e.process import environment
from tests.e2e.test_keys_command import KEY_STRING
from tests.kubernetes.api_server import ApiServer, Refused, running_api_server
from tests.kubernetes.chart import OPERATORS, Object, container_of, objects, only, pod_of, rendered
from tests.kubernetes.tools import CHECKOUT

_DEPLOY = CHECKOUT / "deploy/kubernetes"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def namespace(api: ApiServer, unique: str) -> str:
    name = f"{unique[:30]}"
    api.new_namespace(name)
    return name


def as_pod(each: Object, namespace: str) -> str:
    """Return the pod that a controller would create for a Deployment or a Job."""
    template = each["spec"]["template"]
    metadata = {
        "name": each["metadata"]["name"],
        "namespace": namespace,
        "labels": template["metadata"]["labels"],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})


@pytest.mark.slow
@pytest.mark.parametrize("values", ["minimal", "full", "mesh"])
def test_each_object_is_accepted(api: ApiServer, namespace: str, values: str) -> None:
    """Also a second time, as an upgrade; and the pods, where the standard `restricted` is enforced."""
    given = () if values == "mesh" else OPERATORS
    text = rendered(values, given=given, namespace=namespace)
    applied = api.apply(text, namespace)
    assert len(applied.splitlines()) == len(objects(text))
    assert api.apply(text, namespace) == applied
    for each in objects(text):
        if each["kind"] in ("Deployment", "Job"):
            for account in {pod_of(each).get("serviceAccountName", "default")}:
                assert api.get("serviceaccount", account, namespace)
            assert "created" in api.kubectl("create", "--filename=-", stdin=as_pod(each, namespace))


@pytest.mark.slow
def test_the_manifests_are_accepted(api: ApiServer) -> None:
    """`kubectl apply -k deploy/kubernetes/base`, its overlay, and the example for cert-manager."""
    api.new_namespace("authsvc")
    options = ("--server-side", "--validate=strict", "--force-conflicts")
    for directory in (_DEPLOY / "base", _DEPLOY / "examples/overlay"):
        # A Job cannot be changed.
        api.kubectl("delete", "job", "--all", "--namespace", "authsvc")
        api.kubectl("apply", *options, "--kustomize", directory)
    assert api.get("deployment", "authsvc", "authsvc")["spec"]["replicas"] == 3
    certificates = (_DEPLOY / "examples/cert-manager.yaml").read_text("utf-8")
    assert len(api.apply(certificates, "authsvc").splitlines()) == len(objects(certificates)) == 4


@pytest.mark.slow
def test_what_is_wrong_is_refused(api: ApiServer, namespace: str) -> None:
    """An unknown field, and a pod below the standard: the tests above see what the API server checks."""
    text = rendered("minimal", namespace=namespace)
    with pytest.raises(Refused, match="field not declared in schema"):
        api.apply(text.replace("replicas: 2", "replica: 2"), namespace)
    with pytest.raises(Refused, match="restricted"):
        api.apply(text.replace("runAsNonRoot: true", "runAsNonRoot: false"), namespace)


@pytest.mark.slow
def test_the_service_account_may_do_little(api: ApiServer, namespace: str) -> None:
    """It creates Secrets and reads the administrator's: no other, no list, no change."""
    api.apply(rendered("minimal", namespace=namespace), namespace)
    token = api.kubectl("create", "token", "authsvc-bootstrap", "--namespace", namespace)

    def may(*question: str) -> bool:
        try:
            said = api.kubectl("auth", "can-i", *question, "--namespace", namespace, token=token)
        except Refused:
            return False
        return said.strip() == "yes"

    assert may("create", "secrets")
    assert may("get", "secrets/authsvc-administrator")
    for verb in ("get", "list", "watch", "update", "patch", "delete"):
        assert not may(verb, "secrets")
    for question in (
        ("get", "secrets/authsvc-database"),
        ("update", "secrets/authsvc-administrator"),
        ("delete", "secrets/authsvc-administrator"),
        ("get", "pods"),
        ("create", "pods"),
        ("create", "secrets", "--all-namespaces"),
    ):
        assert not may(*question), question


@pytest.mark.slow
def test_the_bootstrap_job(api: ApiServer, namespace: str, directory: Path, database_url: str) -> None:
    """By the token of its service account, it writes the Secret; a second time it does nothing."""
    text = rendered("minimal", namespace=namespace)
    api.apply(text, namespace)
    api.mount("authsvc-bootstrap", namespace, directory / "account")
    for expected in ("is in the Secret 'authsvc-administrator'", "exists; nothing was done"):
        done = forks.run(
            "tests.kubernetes.in_pod",
            *container_of(only(objects(text), "Job", "authsvc-bootstrap"))["args"],
            cwd=directory,
            env={
                **environment(database_url=database_url),
                "IN_POD": str(directory / "account"),
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(api.port),
            },
        )
        assert (done.returncode, expected in done.stderr) == (0, True), done.stderr
    data = api.get("secret", "authsvc-administrator", namespace)["data"]
    assert KEY_STRING.fullmatch(b64decode(data["key"]).decode())
