"""The pods' own commands, in the order of an installation, as processes.

There is no kubelet: what it does for a pod (variables from Secrets, mounts, a service account) is done here.
"""

import signal
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.certificates import Authority
from tests.e2e import forks
from tests.e2e.process import free_port, until
from tests.e2e.test_keys_command import KEY_STRING
from tests.kubernetes.chart import Object, container_of, environment_of, objects, only, pod_of, rendered
from tests.kubernetes.secrets_api import serving_secrets

Secrets = dict[str, dict[str, str]]


class Kubelet:
    """Runs the commands of pods as processes."""

    def __init__(self, secrets: Secrets, directory: Path) -> None:
        self._secrets, self._directory = secrets, directory

    def environment(self, each: Object) -> dict[str, str]:
        """The variables of its container, with paths of mounted Secrets below our directory."""
        values = {(name, key): value for name, data in self._secrets.items() for key, value in data.items()}
        variables = environment_of(each, values)
        volumes = {volume["name"]: volume for volume in pod_of(each).get("volumes", ())}
        for mount in container_of(each).get("volumeMounts", ()):
            place = self._directory / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for name, value in self._secrets[volumes[mount["name"]]["secret"]["secretName"]].items():
                (place / name).write_text(value, "utf-8")
            variables = {
                name: value.replace(mount["mountPath"], str(place)) for name, value in variables.items()
            }
        return {**forks.inherited_environment(), "IN_POD": "/nowhere", **variables}

    def job(self, each: Object, **also: str) -> tuple[int, str]:
        """Run a Job's container to its end; return its code and what it says."""
        done = forks.run(
            "tests.kubernetes.in_pod",
            *container_of(each)["args"],
            cwd=self._directory,
            env={**self.environment(each), **also},
        )
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def replica(self, each: Object, grpc_port: int, admin_port: int) -> Iterator[forks.Process]:
        """Run a replica on ports of 127.0.0.1."""
        env = {
            **self.environment(each),
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
                process.terminate()
                process.wait(60)


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
@pytest.mark.timeout(300)  # several programs, on a busy machine
def test_an_installation(directory: Path, empty_database_url: str) -> None:
    """Migrate, two replicas, bootstrap; a key by TLS; a replica that ends serves on for its delay."""
    authority = Authority()
    pair = authority.issue()
    secrets = {
        "authsvc-database": {"uri": empty_database_url},
        "authsvc-tls": {"tls.crt": pair.cert.decode(), "tls.key": pair.key.decode()},
    }
    given = ("drain.delaySeconds=5", "workers=1", "settings.AUTHSVC_SCOPES=orders:read")
    found = objects(rendered("minimal", given=given))
    kubelet = Kubelet(secrets, directory)
    deployment, bootstrap = only(found, "Deployment"), only(found, "Job", "authsvc-bootstrap")
    container = container_of(deployment)
    account = directory / "account"
    account.mkdir()
    with serving_secrets(account) as api, ExitStack() as stack:
        in_cluster = {
            "IN_POD": str(account),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(api.port),
        }
        ports = [(free_port(), free_port()) for _ in range(2)]
        # As with the plain manifests: a replica and the bootstrap Job may come before the migration.
        first = stack.enter_context(kubelet.replica(deployment, *ports[0]))
        code, told = kubelet.job(bootstrap, **in_cluster)
        assert (code, "authsvc migrate" in told) == (1, True), told
        code, told = kubelet.job(only(found, "Job", "authsvc-migrate"))
        assert code == 0, told
        stack.enter_context(kubelet.replica(deployment, *ports[1]))
        for _, admin in ports:
            until(lambda port=admin: probed(container["startupProbe"], port) == 200, 60)  # type: ignore[misc]
            assert probed(container["livenessProbe"], admin) == 200
            assert probed(container["readinessProbe"], admin) == 200
        for expected in ("is in the Secret 'authsvc-administrator'", "exists; nothing was done"):
            code, told = kubelet.job(bootstrap, **in_cluster)
            assert (code, expected in told) == (0, True), told
            assert not KEY_STRING.search(told)
        key = b64decode(api.secrets["authsvc-administrator"]["data"]["key"]).decode()
        verify(authority, [port for port, _ in ports], key)
        # It is not ready any more, still verifies, and ends before the kubelet would kill it.
        first.send_signal(signal.SIGTERM)
        until(lambda: probed(container["readinessProbe"], ports[0][1]) == 503)
        assert probed(container["livenessProbe"], ports[0][1]) == 200
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
