"""A Secret of Kubernetes, which a command in a pod writes.

Mechanism: the Kubernetes API of the cluster, with the token of the pod's service account, which the kubelet
mounts (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/). It needs the permission to
create Secrets in the namespace of the pod, and to get the one of this name.

Bound: each call has ten seconds, 64 KiB of an answer are read, and a call that fails for a moment is repeated
three times.

Failure: SecretError. Its message has no value of a Secret, and not the token. `UncertainSecretError` is one
after which the Secret may have been written.
"""

import asyncio
import json
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore

from authsvc.cli.call import ClientError
from authsvc.net.checked_connection import NETWORK_ERRORS, USER_AGENT, TooLargeError, exchange

#: What the kubelet mounts.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CALL_SECONDS = 10.0
_PAUSES = (0.5, 2.0, 5.0)
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_REMEDY = "the pod needs a service account, and automountServiceAccountToken: true"
_FOR_A_MOMENT = frozenset({429, 500, 502, 503, 504})


class SecretError(ClientError):
    """The Secret cannot be read or written. The message is for people."""


class UncertainSecretError(SecretError):
    """It is unknown whether the Secret was written."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Any

    @property
    def reason(self) -> str:
        """What the API names it, such as `Forbidden`."""
        reason = self.body.get("reason") if isinstance(self.body, dict) else None
        return f"{self.status} {reason}" if isinstance(reason, str) else str(self.status)

    @property
    def message(self) -> str:
        message = self.body.get("message") if isinstance(self.body, dict) else None
        return message[:500] if isinstance(message, str) else ""


class KubernetesSecret:
    """A Secret in the namespace of this pod."""

    def __init__(self, name: str, environment: Mapping[str, str], mount: Path) -> None:
        """Take the name, the environment of the process, and where the service account is mounted.

        Raises SecretError if the name is not one of a Secret, or this process is in no pod with a service
        account.
        """
        if not _NAME.fullmatch(name):
            raise SecretError(
                "--kubernetes-secret: use the name of a Secret: lower-case letters, digits, '-' and '.', "
                "beginning and ending with a letter or digit, at most 253 characters"
            )
        self.name = name
        self._host = environment.get("KUBERNETES_SERVICE_HOST", "")
        self._port = environment.get("KUBERNETES_SERVICE_PORT", "")
        if not (self._host and self._port.isdecimal()):
            raise SecretError(
                "--kubernetes-secret: this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST and "
                "KUBERNETES_SERVICE_PORT are not set)"
            )
        self._token = _mounted(mount / "token")
        self._namespace = _mounted(mount / "namespace")
        self._tls = _context(mount / "ca.crt")

    async def exists(self) -> bool:
        """Return whether there is such a Secret. Raises SecretError."""
        return await self._data() is not None

    async def check(self, key: str) -> None:
        """Raise SecretError if it could not be created now. Nothing is written, and no secret is sent."""
        answer = await self._call(
            "POST", self._path(named=False, options="?dryRun=All"), self._object(key, "none")
        )
        # 400: an admission webhook that does not know dry runs. Only the attempt shows more then.
        if answer.status not in (201, 400):
            raise self._refused("create", answer)

    async def create(self, key: str, value: str) -> None:
        """Create it with one value.

        Raises SecretError if it was not created, and UncertainSecretError if that is unknown.
        """
        try:
            answer = await self._call("POST", self._path(named=False), self._object(key, value))
        except SecretError as error:
            failure = str(error)
        else:
            if answer.status == 201:
                return
            # Its message may name what was sent.
            failure = f"the Secret {self.name!r} could not be created ({answer.reason})"
            if answer.status != 409 and answer.status not in _FOR_A_MOMENT:
                raise SecretError(failure)
        # It may be there: an attempt whose answer was lost is followed by one that is told so.
        if not await self._holds(key, value):
            raise SecretError(failure)

    async def _holds(self, key: str, value: str) -> bool:
        """Return whether the Secret has this value. Raises UncertainSecretError if that cannot be read."""
        try:
            data = await self._data()
        except SecretError as error:
            raise UncertainSecretError(str(error)) from None
        return data is not None and data.get(key) == _encoded(value)

    async def _data(self) -> dict[str, str] | None:
        answer = await self._call("GET", self._path(named=True))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused("get", answer)
        data = answer.body.get("data") if isinstance(answer.body, dict) else None
        return data if isinstance(data, dict) else {}

    def _refused(self, verb: str, answer: _Answer) -> SecretError:
        remedy = (
            "; the service account needs a Role that may create secrets, and get the one of the name "
            f"{self.name}"
            if answer.status in (401, 403)
            else ""
        )
        return SecretError(
            f"cannot {verb} the Secret {self.name!r} in the namespace {self._namespace!r} ({answer.reason}): "
            f"{answer.message or 'no message'}{remedy}"
        )

    def _path(self, *, named: bool, options: str = "") -> str:
        name = f"/{self.name}" if named else ""
        return f"/api/v1/namespaces/{self._namespace}/secrets{name}{options}"

    def _object(self, key: str, value: str) -> dict[str, object]:
        labels = {"app.kubernetes.io/name": "authsvc", "app.kubernetes.io/managed-by": "authsvc-bootstrap"}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.name, "labels": labels},
            "type": "Opaque",
            "data": {key: _encoded(value)},
        }

    async def _call(self, method: str, path: str, body: object = None) -> _Answer:
        """Return an answer, after some attempts if it is one for a moment. Raises SecretError."""
        for pause in (*_PAUSES, None):
            try:
                answer = await self._attempt(method, path, body)
            except (*NETWORK_ERRORS, TooLargeError, TimeoutError) as error:
                if pause is None:
                    raise SecretError(
                        f"the Kubernetes API at {self._host}:{self._port} cannot be called "
                        f"({type(error).__name__}); a NetworkPolicy has to allow it"
                    ) from None
            else:
                if answer.status not in _FOR_A_MOMENT or pause is None:
                    return answer
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, method: str, path: str, body: object) -> _Answer:
        host = f"[{self._host}]" if ":" in self._host else self._host
        content = None if body is None else json.dumps(body).encode()
        headers = {
            "host": f"{host}:{self._port}",
            "connection": "close",
            "user-agent": USER_AGENT,
            "accept": "application/json",
            "authorization": f"Bearer {self._token}",
        }
        if content is not None:
            headers |= {"content-length": str(len(content)), "content-type": "application/json"}
        request = httpcore.Request(
            method,
            httpcore.URL(scheme="https", host=self._host, port=int(self._port), target=path),
            headers=list(headers.items()),
            content=content,
        )
        async with asyncio.timeout(_CALL_SECONDS), exchange(request, [self._host], self._tls) as response:
            text = await response.aread()
        try:
            return _Answer(response.status, json.loads(text))
        except ValueError:
            return _Answer(response.status, None)


def _encoded(value: str) -> str:
    return b64encode(value.encode()).decode()


def _mounted(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise SecretError(f"--kubernetes-secret: cannot read {file} ({error.strerror}); {_REMEDY}") from None


def _context(authorities: Path) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SecretError(f"--kubernetes-secret: cannot read {authorities} ({why}); {_REMEDY}") from None
    # Python 3.13 demands extensions that the authorities of some clusters lack, for instance on EKS. The
    # signature of this authority, the times and the name are verified all the same.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls
