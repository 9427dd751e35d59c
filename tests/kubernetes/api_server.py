"""A real API server of Kubernetes with its etcd. No kubelet and no controller acts on what it keeps."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import Authority
from tests.e2e.process import free_port
from tests.kubernetes.tools import schemas, tool

_ADMIN = "token-of-the-admin"
_SECONDS = 120


class Refused(Exception):
    """The API server refuses it; the message is kubectl's."""


@dataclass
class ApiServer:
    """Where it is, and how to call it."""

    port: int
    directory: Path
    kubectl_program: str

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, token: str = _ADMIN) -> str:
        """Run kubectl and return its output. Raises Refused; warnings count as refusals."""
        command = [
            *(self.kubectl_program, f"--server=https://127.0.0.1:{self.port}", f"--token={token}"),
            *(f"--certificate-authority={self.directory}/ca.crt", *arguments),
        ]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode or "warning" in done.stderr.lower():
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def apply(self, text: str, namespace: str) -> str:
        """Apply objects on the server's side, without fields that it does not know."""
        return self.kubectl(
            *("apply", "--server-side", "--validate=strict", "--namespace", namespace, "--filename=-"),
            stdin=text,
        )

    def get(self, kind: str, name: str, namespace: str) -> Any:
        """Return an object."""
        return json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "--output=json"))

    def new_namespace(self, name: str) -> None:
        """Create it as deploy/kubernetes/base/namespace.yaml does, with what controllers would add."""
        level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": level},
        }
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        }
        self.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all([namespace, account]))

    def mount(self, account: str, namespace: str, directory: Path) -> None:
        """Write into a directory what the kubelet mounts for a pod of this service account."""
        directory.mkdir()
        token = self.kubectl("create", "token", account, "--namespace", namespace)
        (directory / "token").write_text(token)
        (directory / "namespace").write_text(namespace)
        (directory / "ca.crt").write_bytes((self.directory / "ca.crt").read_bytes())


@contextmanager
def running_api_server(directory: Path) -> Iterator[ApiServer]:
    """Run both until the end of the block; skip the test if a program is missing."""
    etcd, program = tool("etcd", "Debian package etcd-server"), tool("kube-apiserver", _REMEDY)
    server = ApiServer(free_port(), directory, tool("kubectl", "Debian package kubernetes-client"))
    crds = schemas() / "crds"
    authority = Authority()
    (directory / "ca.crt").write_bytes(authority.cert)
    authority.issue(addresses=("127.0.0.1",)).write(directory / "tls.crt", directory / "tls.key")
    # What signs the tokens of service accounts.
    (directory / "accounts.key").write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (directory / "tokens.csv").write_text(f"{_ADMIN},admin,admin,system:masters\n")
    store = f"http://127.0.0.1:{free_port()}"
    peers = f"http://127.0.0.1:{free_port()}"
    commands: tuple[list[str | Path], ...] = (
        [
            *(etcd, "--data-dir", directory / "etcd", "--listen-client-urls", store),
            *("--advertise-client-urls", store, "--listen-peer-urls", peers),
            *("--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"),
        ],
        [
            *(program, f"--etcd-servers={store}", "--bind-address=127.0.0.1", f"--secure-port={server.port}"),
            *("--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"),
            *(f"--tls-cert-file={directory}/tls.crt", f"--tls-private-key-file={directory}/tls.key"),
            *(f"--cert-dir={directory}", f"--token-auth-file={directory}/tokens.csv"),
            *(f"--service-account-key-file={directory}/accounts.key", "--authorization-mode=RBAC"),
            *(f"--service-account-signing-key-file={directory}/accounts.key",),
            "--service-account-issuer=https://kubernetes.default.svc",
        ],
    )
    processes = []
    try:
        for name, command in zip(("etcd", "kube-apiserver"), commands, strict=True):
            with (directory / f"{name}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=directory))
        _until_ready(server, processes)
        server.kubectl("apply", "--server-side", "--filename", crds)
        server.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={_SECONDS}s")
        yield server
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


_REMEDY = "it takes 13 minutes of a core to build: KUBE_APISERVER=1 tests/kubernetes/install.sh"


def _until_ready(server: ApiServer, processes: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        logs = "\n".join(path.read_text("utf-8")[-2000:] for path in server.directory.glob("*.log"))
        assert all(process.poll() is None for process in processes), logs
        assert time.monotonic() < deadline, logs
        with suppress(Refused):
            if server.kubectl("get", "--raw=/readyz") == "ok":
                return
        time.sleep(0.2)
