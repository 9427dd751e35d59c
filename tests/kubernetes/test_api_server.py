"""A real API server accepts every object, lets the bootstrap Job do its work, and its pods' commands serve.

There is no kubelet: what it does for a pod (variables from Secrets, mounts, a service account) is done here,
and the commands run as processes.
"""

import json
import signal
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
import yaml

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.certificates import Authority
from tests.e2e import forks
from tests.e2e.process import free_port, until
from tests.e2e.test_keys_command import KEY_STRING
from tests.kubernetes.api_server import ApiServer, Refused, running_api_server
from tests.kubernetes.chart import (
    OPERATORS,
    Object,
    container_of,
    environment_of,
    objects,
    only,
    pod_of,
    rendered,
)
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
    with pytest.raises(Refused, match="unknown field"):
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


class Kubelet:
    """Runs the commands of pods as processes."""

    def __init__(self, api: ApiServer, namespace: str, directory: Path) -> None:
        self._api, self._namespace, self._directory = api, namespace, directory

    def secret(self, name: str, key: str) -> str:
        return b64decode(self._api.get("secret", name, self._namespace)["data"][key]).decode()

    def environment(self, each: Object) -> dict[str, str]:
        """The variables of its container, with paths of mounted Secrets below our directory."""
        wanted = [v["valueFrom"]["secretKeyRef"] for v in container_of(each)["env"] if "valueFrom" in v]
        found = {(ref["name"], ref["key"]): self.secret(ref["name"], ref["key"]) for ref in wanted}
        variables = environment_of(each, found)
        volumes = {volume["name"]: volume for volume in pod_of(each).get("volumes") or ()}
        for mount in container_of(each).get("volumeMounts") or ():
            place = self._directory / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            secret = volumes[mount["name"]]["secret"]
            data = self._api.get("secret", secret["secretName"], self._namespace)["data"]
            for name, value in data.items():
                (place / name).write_bytes(b64decode(value))
            variables = {
                name: value.replace(mount["mountPath"], str(place)) for name, value in variables.items()
            }
        return {**forks.inherited_environment(), **variables}

    def job(self, each: Object, **also: str) -> tuple[int, str]:
        """Run a Job's container to its end; return its code and what it says."""
        done = forks.run(
            "tests.kubernetes.in_pod",
            *container_of(each)["args"],
            cwd=self._directory,
            env={**self.environment(each), "IN_POD": "/nowhere", **also},
        )
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def replica(self, each: Object, grpc_port: int, admin_port: int) -> Iterator[forks.Process]:
        """Run a replica on ports of 127.0.0.1."""
        env = {
            **self.environment(each),
            "IN_POD": "/nowhere",
            "AUTHSVC_LISTEN": f"127.0.0.1:{grpc_port}",
            "AUTHSVC_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        }
        with (self._directory / f"replica-{grpc_port}").open("wb") as log:
            args = container_of(each)["args"]
            process = forks.start(
                "tests.kubernetes.in_pod", *args, cwd=self._directory, env=env, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def probed(probe: Object, port: int) -> int:
    """Return the status of a probe of the container; 0 if nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=10) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


@pytest.mark.slow
def test_an_installation(api: ApiServer, namespace: str, directory: Path, empty_database_url: str) -> None:
    """The pods' own commands, in Helm's order: migrate, two replicas, bootstrap; a key by TLS; a drain."""
    authority = Authority()
    pair = authority.issue()
    for name, data in {
        "authsvc-database": {"uri": empty_database_url},
        "authsvc-tls": {"tls.crt": pair.cert.decode(), "tls.key": pair.key.decode()},
    }.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        api.apply(yaml.safe_dump(secret), namespace)
    given = ("drain.delaySeconds=2", "workers=1", "settings.AUTHSVC_SCOPES=orders:read")
    text = rendered("minimal", given=given, namespace=namespace)
    api.apply(text, namespace)
    found = objects(text)
    kubelet = Kubelet(api, namespace, directory)
    api.mount("authsvc-bootstrap", namespace, directory / "account")
    in_cluster = {
        "IN_POD": str(directory / "account"),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.port),
    }
    deployment, bootstrap = only(found, "Deployment"), only(found, "Job", "authsvc-bootstrap")
    with ExitStack() as stack:
        ports = [(free_port(), free_port()) for _ in range(2)]
        # As with the plain manifests: a replica that is started first waits for the migration.
        first = stack.enter_context(kubelet.replica(deployment, *ports[0]))
        code, told = kubelet.job(bootstrap, **in_cluster)
        assert (code, "authsvc migrate" in told) == (1, True)
        code, told = kubelet.job(only(found, "Job", "authsvc-migrate"))
        assert code == 0, told
        stack.enter_context(kubelet.replica(deployment, *ports[1]))
        container = container_of(deployment)
        for _, admin in ports:
            until(lambda port=admin: probed(container["startupProbe"], port) == 200, 60)  # type: ignore[misc]
            assert probed(container["livenessProbe"], admin) == 200
            assert probed(container["readinessProbe"], admin) == 200
        for expected in ("is in the Secret 'authsvc-administrator'", "exists; nothing was done"):
            code, told = kubelet.job(bootstrap, **in_cluster)
            assert (code, expected in told) == (0, True), told
            assert not KEY_STRING.search(told)
        key = kubelet.secret("authsvc-administrator", "key")
        verify(authority, [port for port, _ in ports], key)
        # It is not ready any more, still verifies, and ends before the kubelet would kill it.
        first.send_signal(signal.SIGTERM)
        until(lambda: probed(container["readinessProbe"], ports[0][1]) == 503)
        verify(authority, [ports[0][0]], key)
        assert first.wait(pod_of(deployment)["terminationGracePeriodSeconds"]) == 0


def verify(authority: Authority, ports: list[int], key: str) -> None:
    """Verify a new key at each port, by TLS."""
    metadata = (("authorization", f"Bearer {key}"),)
    credentials = grpc.ssl_channel_credentials(authority.cert)
    made = None
    for port in ports:
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = KeyServiceStub(channel)
            if made is None:
                request = pb.CreateKeyRequest(owner_id="acme", display_name="x", scopes=["orders:read"])
                made = stub.CreateKey(request, metadata=metadata, timeout=30)
            asked = pb.VerifyKeyRequest(key_string=made.key_string, required_scopes=["orders:read"])
            assert stub.VerifyKey(asked, metadata=metadata, timeout=30).valid
