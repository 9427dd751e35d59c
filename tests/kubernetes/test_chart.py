"""The chart: what it renders, what it refuses, and that what is made of it is fresh."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from authsvc.config.settings import Settings, load_settings, secret_names
from authsvc.config.transport import check_transport
from tests.conftest import WEBHOOK_KEY
from tests.kubernetes.chart import (
    CHART,
    VALUES,
    ChartError,
    Object,
    container_of,
    environment_of,
    helm,
    objects,
    only,
    pod_of,
    rendered,
)
from tests.kubernetes.tools import CHECKOUT, tool

_PODS = ("Deployment", "Job")
_SECRETS = {
    ("authsvc-database", "uri"): "postgresql://authsvc_server@db/authsvc",
    ("keys-db-app", "uri"): "postgresql://authsvc_server@db/authsvc",
    ("keys-db-owner", "url"): "postgresql://authsvc_owner@db/authsvc",
    ("keys-webhooks", "keys"): WEBHOOK_KEY,
}


@pytest.fixture(params=VALUES)
def found(request: pytest.FixtureRequest) -> list[Object]:
    """The objects for one of the values files."""
    return objects(rendered(request.param))


def pods(found: list[Object]) -> list[Object]:
    return [each for each in found if each["kind"] in _PODS]


@pytest.mark.parametrize("values", VALUES)
def test_lint(values: str) -> None:
    """Helm's own checks, warnings included."""
    told = helm("lint", "--strict", CHART, "--values", VALUES[values])
    assert "0 chart(s) failed" in told
    assert "WARNING" not in told


def test_pods_meet_the_restricted_standard(found: list[Object]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a read-only file system."""
    for each in pods(found):
        spec, security = pod_of(each)["securityContext"], container_of(each)["securityContext"]
        assert (spec["runAsNonRoot"], spec["runAsUser"]) == (True, 65534)
        assert spec["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_variables_of_services_do_not_stop_the_start(found: list[Object]) -> None:
    """Kubernetes would set AUTHSVC_PORT and others for a Service of this name, which are unknown settings."""
    assert pods(found)
    assert all(pod_of(each)["enableServiceLinks"] is False for each in pods(found))


def test_only_the_bootstrap_job_has_a_token(found: list[Object]) -> None:
    """Replicas do not call the Kubernetes API."""
    tokens = {each["metadata"]["name"]: pod_of(each)["automountServiceAccountToken"] for each in pods(found)}
    assert {name for name, mounted in tokens.items() if mounted} <= {"authsvc-bootstrap", "keys-bootstrap"}
    assert not any(each["automountServiceAccountToken"] for each in found if each["kind"] == "ServiceAccount")


def test_each_volume_is_there(found: list[Object]) -> None:
    """Mounts name volumes of the pod, each once, and each volume is used."""
    for each in pods(found):
        mounts = [mount["name"] for mount in container_of(each).get("volumeMounts") or ()]
        volumes = [volume["name"] for volume in pod_of(each).get("volumes") or ()]
        assert sorted(mounts) == sorted(volumes)


def test_selectors_find_the_replicas_and_nothing_else(found: list[Object]) -> None:
    """Services, the budget and the policies select pods of the Deployment, and no Job's."""
    replica = only(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    jobs = [each["spec"]["template"]["metadata"]["labels"] for each in found if each["kind"] == "Job"]
    for each in found:
        if each["kind"] == "Service":
            selector = each["spec"]["selector"]
        elif each["kind"] in ("Deployment", "PodDisruptionBudget"):
            selector = each["spec"]["selector"]["matchLabels"]
        else:
            continue
        assert selector.items() <= replica.items(), each["metadata"]["name"]
        assert not any(selector.items() <= labels.items() for labels in jobs)


def test_ports_have_the_names_that_are_used(found: list[Object]) -> None:
    """Services, probes and policies name ports of the container."""
    deployment = only(found, "Deployment")
    container = container_of(deployment)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    used = {
        port["targetPort"] for each in found if each["kind"] == "Service" for port in each["spec"]["ports"]
    }
    used |= {
        container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    for each in found:
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == deployment["metadata"]["name"]:
            used |= {port["port"] for rule in each["spec"]["ingress"] for port in rule["ports"]}
    assert used == set(ports)
    env = environment_of(deployment, _SECRETS)
    listens = {name: value for name, value in env.items() if name.endswith("_LISTEN")}
    assert {int(value.rpartition(":")[2]) for value in listens.values()} == set(ports.values())


@pytest.mark.parametrize("values", VALUES)
def test_settings_are_valid(values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pod's variables are settings that the service accepts, with the values that were meant."""
    for each in pods(objects(rendered(values))):
        with monkeypatch.context() as patch:
            for name, value in environment_of(each, _SECRETS).items():
                patch.setenv(name, value)
            settings = load_settings()
        if each["kind"] == "Deployment":
            check_transport(settings)
            assert settings.drain_delay.total_seconds() == (15 if values == "full" else 10)
            assert settings.workers == (4 if values == "full" else 2)
            assert settings.wait_for_database.total_seconds() == (120 if values == "full" else 300)
            # With the check over HTTP beside TLS, too.
            assert bool(settings.insecure) == (values in ("mesh", "full"))
            assert settings.argon2_threads == 1
        if each["kind"] == "Deployment" and values == "full":
            assert settings.cache_capacity == 2_000_000
            assert settings.reflection is False
            assert (settings.traces, settings.verification_sampling) == ("on", 0.0005)
            assert environment_of(each, _SECRETS)["OTEL_SDK_DISABLED"] == "true"
            assert [entry.name for entry in settings.scopes or ()] == ["orders:read", "orders:write"]


@pytest.mark.parametrize(("delay", "grace", "period"), [(10, 10, 45), (0, 0, 25), (15, 40, 80)])
def test_the_grace_period_covers_the_drain(delay: int, grace: int, period: int) -> None:
    """AUTHSVC_DRAIN_DELAY, AUTHSVC_DRAIN_GRACE and 25 s, as docs/operations.md says; and no preStop hook."""
    given = (f"drain.delaySeconds={delay}", f"drain.graceSeconds={grace}")
    deployment = only(objects(rendered("minimal", given=given)), "Deployment")
    assert pod_of(deployment)["terminationGracePeriodSeconds"] == period
    # So a rollout has at most one replica that ends.
    assert deployment["spec"]["minReadySeconds"] == period
    assert "lifecycle" not in container_of(deployment)


def test_the_start_may_wait_for_the_database() -> None:
    """The startup probe gives up no earlier than the service."""
    probe = container_of(only(objects(rendered("minimal")), "Deployment"))["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 300 + 60


def test_hooks_come_in_order() -> None:
    """Before the replicas: the policy of the Jobs, then the migration. After them: the first key."""
    hooks = {}
    for each in objects(rendered("full")):
        notes = each["metadata"].get("annotations") or {}
        if "helm.sh/hook" in notes:
            hook = notes["helm.sh/hook"], int(notes["helm.sh/hook-weight"])
            hooks[each["kind"], each["metadata"]["name"]] = hook
            # Helm forgets what hooks have made, so a policy would stay for ever.
            ends = "hook-succeeded" in notes["helm.sh/hook-delete-policy"]
            assert ends == (each["kind"] == "NetworkPolicy")
    assert hooks == {
        ("NetworkPolicy", "keys-migrate"): ("pre-install,pre-upgrade", -5),
        ("Job", "keys-migrate"): ("pre-install,pre-upgrade", 0),
        ("Job", "keys-bootstrap"): ("post-install,post-upgrade", 0),
    }


def test_the_migration_needs_nothing_that_comes_later() -> None:
    """It runs first, so it mounts no ConfigMap and uses no service account of the chart."""
    migrate = only(objects(rendered("full")), "Job", "keys-migrate")
    assert [volume["name"] for volume in pod_of(migrate)["volumes"]] == ["database-ca"]
    assert "serviceAccountName" not in pod_of(migrate)
    env = environment_of(migrate, _SECRETS)
    assert env["AUTHSVC_MIGRATION_DATABASE_URL"].startswith("postgresql://authsvc_owner@")
    # The schema enforces it.
    assert env["AUTHSVC_AUDIT_RETENTION"] == "400d"


def test_the_role_that_owns_the_schema_stays_in_its_job() -> None:
    """No other pod gets its URL."""
    for each in pods(objects(rendered("full"))):
        has = "keys-db-owner" in json.dumps(each)
        assert has == (each["metadata"]["name"] == "keys-migrate")


def test_the_role_of_the_bootstrap_job_is_small() -> None:
    """It creates Secrets, and reads the one that it creates."""
    assert only(objects(rendered("full")), "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["keys-first"], "verbs": ["get"]},
    ]


@pytest.mark.parametrize("release", ["authsvc", "a" * 53, "prod"])
def test_names_fit(release: str) -> None:
    """Into the 63 characters of labels and names of Services, for each name that a release can have."""
    for given in ((), ("helm=false", "image.tag=1.2.3-rc.1_build." + "4" * 60)):
        found = objects(rendered("minimal", given=given, release=release))
        assert all(len(each["metadata"]["name"]) <= 63 for each in found)
        keys = [(each["kind"], each["metadata"]["name"]) for each in found]
        assert len(keys) == len(set(keys))
        for each in found:
            for value in each["metadata"]["labels"].values():
                assert re.fullmatch(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("database.existingSecret=", "database.existingSecret: name the Secret that holds the URL"),
        (
            "tls.existingSecret=",
            "tls.existingSecret: name the Secret with the certificate of the service; or set",
        ),
        ("insecure=plaintext-beyond-loopback", "insecure: remove it, because tls.existingSecret is set"),
        ("insecure=yes", "insecure"),
        ("settings.AUTHSVC_WORKERS=8", "settings.AUTHSVC_WORKERS: the chart sets it by a value of its own"),
        (
            "secretSettings.AUTHSVC_DATABASE_URL.secret=a,secretSettings.AUTHSVC_DATABASE_URL.key=b",
            "secretSettings.AUTHSVC_DATABASE_URL: the chart sets it by a value of its own",
        ),
        (
            "settings.AUTHSVC_SCOPES=a,secretSettings.AUTHSVC_SCOPES.secret=a,secretSettings.AUTHSVC_SCOPES.key=b",
            "settings.AUTHSVC_SCOPES: it is in secretSettings as well",
        ),
        (
            "settings.AUTHSVC_DATABASE_URL_FILE=/url",
            "settings.AUTHSVC_DATABASE_URL_FILE: the chart sets it by a value of its own",
        ),
        ("settings.WORKERS=8", "settings.WORKERS: use the name of a setting of authsvc, such as"),
        ("files.a/b=x", "files.a/b: use a file name of letters, digits"),
        ("replica=3", "replica"),
        ("workers=0", "workers"),
        ("image.tag=a b", "tag"),
        ("image.digest=latest", "digest"),
        ("autoscaling.enabled=true,autoscaling.maxReplicas=1", "autoscaling.maxReplicas: must be at least"),
        ("web.enabled=true,service.port=8443", "service.port: 8443 is the port of web; use another one"),
        ("httpCheck.enabled=true,service.port=8080", "service.port: 8080 is the port of httpCheck"),
        (
            "podLabels.app\\.kubernetes\\.io/component=x",
            "podLabels.app.kubernetes.io/component: remove it, because the Deployment finds its pods by this",
        ),
    ],
)
def test_wrong_values_are_told(given: str, told: str) -> None:
    """Helm stops and names the value."""
    with pytest.raises(ChartError, match=re.escape(told)):
        rendered("minimal", given=(given,))


@pytest.mark.parametrize("name", secret_names())
def test_secrets_are_refused_as_settings(name: str) -> None:
    """`kubectl describe` would show them."""
    told = f"settings.AUTHSVC_{name.upper()}: (it is a secret|the chart sets it)"
    with pytest.raises(ChartError, match=told):
        rendered("minimal", given=(f"settings.AUTHSVC_{name.upper()}=hunter2",))


@pytest.mark.parametrize("policy", ["authsvc", "authsvc-migrate", "authsvc-bootstrap"])
def test_each_pod_may_reach_the_database(policy: str) -> None:
    """By a policy of its own; the one of the migration is deleted after it."""
    found = only(objects(rendered("minimal")), "NetworkPolicy", policy)
    ports = [port["port"] for rule in found["spec"]["egress"] for port in rule["ports"]]
    assert ports[:3] == [53, 53, 5432]
    [selected] = [
        each
        for each in pods(objects(rendered("minimal")))
        if found["spec"]["podSelector"]["matchLabels"].items()
        <= each["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert selected["metadata"]["name"] == policy


def test_without_scrapers_nobody_reads_metrics() -> None:
    """A rule without peers would admit everybody."""
    found = only(
        objects(rendered("minimal", given=("networkPolicy.scrapers=null",))), "NetworkPolicy", "authsvc"
    )
    assert [port["port"] for rule in found["spec"]["ingress"] for port in rule["ports"]] == ["grpc"]


@pytest.mark.parametrize("text", ["123", "true", "1e3", "null"])
def test_names_that_yaml_would_read_as_something_else(text: str) -> None:
    """They stay texts: the release, the namespace, and Secrets with their keys."""
    given = (
        "fullnameOverride=authsvc",
        f"secretSettings.AUTHSVC_WEBHOOK_KEYS.secret={text}",
        f"secretSettings.AUTHSVC_WEBHOOK_KEYS.key={text}",
    )
    found = objects(rendered("minimal", given=given, release=text, namespace=text, as_text=True))
    for each in found:
        assert (
            each["metadata"]["namespace"] == each["metadata"]["labels"]["app.kubernetes.io/instance"] == text
        )
    variables = container_of(only(found, "Deployment"))["env"]
    assert {"name": text, "key": text} in [
        each["valueFrom"]["secretKeyRef"] for each in variables if "valueFrom" in each
    ]


def test_values_schema_and_comments_agree() -> None:
    """Each value is in the schema, and none else is; each has a comment. This needs no helm."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    def compare(path: str, value: Any, described: Any) -> None:
        if "properties" not in described:
            documented.append(path)
            return
        assert described["additionalProperties"] is False
        assert set(described["properties"]) - {"global"} == set(value), path
        for name, inner in value.items():
            compare(f"{path}.{name}".removeprefix("."), inner, described["properties"][name])

    documented: list[str] = []
    compare("", defaults, schema)
    made = runpy.run_path(str(CHECKOUT / "deploy/kubernetes/generate.py"))
    rows = {name: (default, comment) for name, default, comment in made["values"]()}
    assert set(documented) == set(rows)
    assert len(rows) > 60
    assert all(comment for _, comment in rows.values())


def test_the_settings_of_the_chart_exist() -> None:
    """Those that it sets by values of its own."""
    checks = (CHART / "templates/_checks.tpl").read_text("utf-8")
    text, _, secrets = checks.partition('define "authsvc.secrets"')
    listed = re.findall(r"^- AUTHSVC_(\w+)$", text, re.MULTILINE)
    # Of a setting that the chart sets, nobody may name a file, either.
    own = {name for name in listed if name.removesuffix("_FILE") not in set(listed) - {name}}
    templates = "".join(path.read_text("utf-8") for path in (CHART / "templates").glob("*.yaml"))
    templates += (CHART / "templates/_pod.tpl").read_text("utf-8")
    # The chart has a default for one that may be set.
    assert own | {"ARGON2_THREADS"} == set(re.findall(r"- name: AUTHSVC_(\w+)", templates))
    assert {name.lower() for name in own} <= set(Settings.model_fields)
    assert own | set(re.findall(r"^- AUTHSVC_(\w+)$", secrets, re.MULTILINE)) >= {
        name.upper() for name in secret_names()
    }


def test_the_table_of_values_is_fresh() -> None:
    """docs/kubernetes.md has it as values.yaml says; `make manifests` writes it. This needs no helm."""
    made: dict[str, Callable[[], str]] = runpy.run_path(str(CHECKOUT / "deploy/kubernetes/generate.py"))
    assert (CHECKOUT / "docs/kubernetes.md").read_text("utf-8") == made["document"]()


def test_the_alerts_are_fresh() -> None:
    """The chart has the rules of deploy/prometheus, if there are some; `make manifests` copies them."""
    rules = [CHECKOUT / "deploy/prometheus/rules.yaml", CHART / "rules.yaml"]
    ours, of_chart = (path.read_bytes() if path.exists() else None for path in rules)
    assert ours == of_chart


def test_the_manifests_are_fresh() -> None:
    """deploy/kubernetes/base/authsvc.yaml is what the chart renders; `make manifests` writes it."""
    tool("helm")
    made: dict[str, Callable[[], str]] = runpy.run_path(str(CHECKOUT / "deploy/kubernetes/generate.py"))
    assert (CHECKOUT / "deploy/kubernetes/base/authsvc.yaml").read_text("utf-8") == made["manifests"]()


def test_the_overlay_changes_the_image_and_the_settings() -> None:
    """As `kubectl apply -k` would: nothing of Helm is left, and Jobs bear the release in their names."""
    overlay = CHECKOUT / "deploy/kubernetes/examples/overlay"
    kubectl = tool("kubectl", "Debian package kubernetes-client")
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = objects(done.stdout)
    deployment = only(found, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    assert environment_of(deployment, _SECRETS)["AUTHSVC_SCOPES"].startswith("orders:read=")
    assert {container_of(each)["image"] for each in pods(found)} == {
        "registry.example/platform/authsvc:0.1.0"
    }
    assert "helm" not in done.stdout.lower()
    assert only(found, "Job", "authsvc-migrate-0-1-0")
