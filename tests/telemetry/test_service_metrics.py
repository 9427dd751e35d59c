"""The metrics of a running service."""

from authsvc.model.verdict import VerdictCode
from tests.conftest import Service

_WATCHED = ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED")


def value(service: Service, name: str, **labels: str) -> float:
    found = service.app.metrics.registry.get_sample_value(f"authsvc_{name}", labels)
    assert found is not None, f"{name}{labels} is not there"
    return found


async def test_counters_are_there_before_they_count(service: Service) -> None:
    """Each method has its errors and calls, each verification its buckets, each code its verdicts."""
    for method in ("VerifyKey", "Check", "VerifySession", "RevokeKey", "BatchVerifyKeys"):
        assert [value(service, "rpc_errors_total", method=method, code=code) for code in _WATCHED] == [0] * 5
        assert value(service, "rpc_seconds_count", method=method) == 0
        assert value(service, "rpc_seconds_bucket", method=method, le="+Inf") == 0
    for method in ("VerifyKey", "Check", "VerifySession", "BatchVerifyKeys", "VerifyToken"):
        assert value(service, "rpc_seconds_bucket", method=method, le="0.01") == 0
    for code in VerdictCode:
        assert value(service, "verdicts_total", code=code.value) == 0
    for outcome in ("confirmed", "lease_over", "unconfirmed"):
        assert value(service, "barrier_wait_seconds_count", outcome=outcome) == 0


async def test_what_a_key_leaves_in_the_metrics(service: Service) -> None:
    """A fill, a verdict, a wait at the barrier; the lease and its renewal; the build."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    fills = value(service, "cache_fills_total")
    for _ in range(2):
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
    assert value(service, "cache_fills_total") == fills + 1
    assert value(service, "rpc_seconds_count", method="VerifyKey") == 2
    bucket = {"method": "RevokeKey", "le": "0.0001"}
    assert service.app.metrics.registry.get_sample_value("authsvc_rpc_seconds_bucket", bucket) is None
    await service.admin.RevokeKey(key_id=made.key.key_id)
    assert value(service, "rpc_seconds_bucket", **bucket) == 0
    assert value(service, "barrier_wait_seconds_count", outcome="confirmed") == 1
    assert 0 < value(service, "lease_seconds") <= value(service, "lease_length_seconds") == 30
    assert value(service, "lease_renewal_seconds_count") >= 1
    assert value(service, "database_connection_wait_seconds_count") == value(
        service, "database_checkouts_total"
    )
