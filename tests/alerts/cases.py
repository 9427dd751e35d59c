"""For each alert: series with which it fires, and series with which it does not, though nearly.

Series are written as promtool reads them, one value a minute for two hours. The alert is looked at after 90
minutes. Each case has a job of its own, which is added to the labels.
"""

from collections.abc import Mapping
from typing import NamedTuple

Series = Mapping[str, str]


class Case(NamedTuple):
    """An alert with two sets of series."""

    alert: str
    fires: Series
    quiet: Series


def _always(value: float) -> str:
    return f"{value:g}x120"


def _rising(each_minute: float) -> str:
    return f"0+{each_minute:g}x120"


_VERIFY = 'method="VerifyKey"'
_WORKER = 'worker="0", instance="a"'
# A counter that has risen by three, some minutes before the look.
_ONCE = "0x85 3x35"


def _slow(method: str, bound: str, fast: float, slow: float) -> dict[str, str]:
    """A histogram in which so many calls a minute are within a bound, and so many are beyond the last one."""
    return {
        f'{method}_bucket{{le="{bound}", {_WORKER}}}': _rising(fast),
        f'{method}_bucket{{le="60.0", {_WORKER}}}': _rising(fast + slow),
        f'{method}_bucket{{le="+Inf", {_WORKER}}}': _rising(fast + slow),
    }


def _attempts(kind: str, failed: str, done: str) -> dict[str, str]:
    good = {"mail": "sent", "webhook": "delivered"}[kind]
    return {
        f'authsvc_notification_attempts_total{{outcome="{kind}_failed"}}': failed,
        f'authsvc_notification_attempts_total{{outcome="{kind}_{good}"}}': done,
    }


def _burning(errors: str, calls: str = _rising(60_000)) -> dict[str, str]:
    return {
        f'authsvc_rpc_errors_total{{{_VERIFY}, code="UNAVAILABLE"}}': errors,
        f"authsvc_rpc_seconds_count{{{_VERIFY}}}": calls,
        "authsvc_gateway_undecided_total": _always(0),
    }


def _late(slow_of_a_thousand: int) -> dict[str, str]:
    return {
        f"authsvc_rpc_seconds_count{{{_VERIFY}}}": _rising(1000),
        f'authsvc_rpc_seconds_bucket{{{_VERIFY}, le="0.01"}}': _rising(1000 - slow_of_a_thousand),
    }


CASES = (
    Case(
        "AuthsvcDown",
        {'authsvc_ready{worker="0"}': _always(0), 'authsvc_ready{worker="1"}': _always(0)},
        {'authsvc_ready{worker="0"}': _always(0), 'authsvc_ready{worker="1"}': _always(1)},
    ),
    Case(
        "AuthsvcProcessDown",
        {'authsvc_up{worker="notifier"}': _always(0)},
        # It does not answer for two minutes.
        {'authsvc_up{worker="0"}': "1x88 0x2 1x30"},
    ),
    # 2 % and 1 % of the calls; the factors are 14.4 and, for six hours, 6 of 0.1 %.
    Case("AuthsvcErrorBudgetBurnsFast", _burning(_rising(1200)), _burning(_rising(60_000 * 0.0055))),
    Case("AuthsvcErrorBudgetBurns", _burning(_rising(60_000 * 0.0031)), _burning(_rising(60_000 * 0.0009))),
    Case("AuthsvcLatencyBudgetBurnsFast", _late(150), _late(55)),
    Case("AuthsvcLatencyBudgetBurns", _late(31), _late(9)),
    Case(
        "AuthsvcOverloaded",
        {
            f'authsvc_rpc_errors_total{{{_VERIFY}, code="RESOURCE_EXHAUSTED"}}': _rising(20),
            f"authsvc_rpc_seconds_count{{{_VERIFY}}}": _rising(1000),
        },
        {
            f'authsvc_rpc_errors_total{{{_VERIFY}, code="RESOURCE_EXHAUSTED"}}': _rising(9),
            # Lists that are refused are no verifications.
            'authsvc_rpc_errors_total{method="ListKeys", code="RESOURCE_EXHAUSTED"}': _rising(500),
            f"authsvc_rpc_seconds_count{{{_VERIFY}}}": _rising(1000),
        },
    ),
    Case(
        "AuthsvcLeaseLow",
        {
            f"authsvc_lease_seconds{{{_WORKER}}}": _always(19),
            f"authsvc_lease_length_seconds{{{_WORKER}}}": _always(30),
        },
        {
            f"authsvc_lease_seconds{{{_WORKER}}}": _always(21),
            f"authsvc_lease_length_seconds{{{_WORKER}}}": _always(30),
            # One that is over is the other alert's.
            'authsvc_lease_seconds{worker="1"}': _always(0),
            'authsvc_lease_length_seconds{worker="1"}': _always(30),
        },
    ),
    Case(
        "AuthsvcLeaseOver",
        {f"authsvc_lease_seconds{{{_WORKER}}}": _always(0)},
        {f"authsvc_lease_seconds{{{_WORKER}}}": "30x89 0 30x30"},
    ),
    Case(
        "AuthsvcRegistersAgain",
        {f"authsvc_registrations_total{{{_WORKER}}}": _rising(0.2)},
        {f"authsvc_registrations_total{{{_WORKER}}}": "1x80 2x40"},
    ),
    Case(
        "AuthsvcBarrierSlow",
        _slow("authsvc_barrier_wait_seconds", "0.5", 97, 3),
        _slow("authsvc_barrier_wait_seconds", "0.5", 995, 5),
    ),
    Case(
        "AuthsvcChangesUnconfirmed",
        {'authsvc_barrier_wait_seconds_count{outcome="unconfirmed"}': _ONCE},
        {
            'authsvc_barrier_wait_seconds_count{outcome="unconfirmed"}': _always(3),
            'authsvc_barrier_wait_seconds_count{outcome="lease_over"}': _rising(1),
        },
    ),
    Case(
        "AuthsvcReplicaBehind",
        {f"authsvc_feed_lag_seconds{{{_WORKER}}}": _always(6)},
        {f"authsvc_feed_lag_seconds{{{_WORKER}}}": _always(4)},
    ),
    Case(
        "AuthsvcClientsLate",
        {"authsvc_clients_late_total": _ONCE},
        {"authsvc_clients_late_total": "0x85 1x35"},
    ),
    Case(
        "AuthsvcClientsRefused",
        {'authsvc_clients_refused_total{reason="HOLDER_LIMIT"}': _ONCE},
        {'authsvc_clients_refused_total{reason="STOPPING"}': _rising(1)},
    ),
    Case(
        "AuthsvcEventLoopBusy",
        _slow("authsvc_event_loop_lag_seconds", "0.1", 230, 10),
        _slow("authsvc_event_loop_lag_seconds", "0.1", 239, 1),
    ),
    Case(
        "AuthsvcQueueLong",
        {"authsvc_argon2_pending": _always(600), "authsvc_argon2_queue_limit": _always(1024)},
        {"authsvc_argon2_pending": "0x87 600x2 0x30", "authsvc_argon2_queue_limit": _always(1024)},
    ),
    Case(
        "AuthsvcCallsPileUp",
        {
            'authsvc_calls_in_flight{kind="verification"}': _always(900),
            'authsvc_calls_in_flight{kind="other"}': _always(800),
            "authsvc_calls_in_flight_limit": _always(2000),
        },
        {
            'authsvc_calls_in_flight{kind="verification"}': _always(900),
            'authsvc_calls_in_flight{kind="other"}': _always(600),
            "authsvc_calls_in_flight_limit": _always(2000),
        },
    ),
    Case(
        "AuthsvcCacheEvicts",
        {"authsvc_cache_evictions_total": _rising(120)},
        {"authsvc_cache_evictions_total": "0x60 0+600x60"},  # for half an hour
    ),
    Case(
        "AuthsvcDatabaseConnectionsShort",
        _slow("authsvc_database_connection_wait_seconds", "0.5", 97, 3),
        _slow("authsvc_database_connection_wait_seconds", "0.5", 995, 5),
    ),
    Case(
        "AuthsvcDatabaseSlotsShort",
        {
            'authsvc_database_slots_waiting{kind="change"}': _always(3),
            'authsvc_database_slots_in_use{kind="change"}': _always(8),
            'authsvc_database_slots{kind="change"}': _always(8),
        },
        {
            # One owner waits for its share.
            'authsvc_database_slots_waiting{kind="change"}': _always(3),
            'authsvc_database_slots_in_use{kind="change"}': _always(7),
            'authsvc_database_slots{kind="change"}': _always(8),
        },
    ),
    Case(
        "AuthsvcConnectionsFull",
        {"authsvc_http_connections": _always(4000), "authsvc_http_connection_limit": _always(4096)},
        {
            "authsvc_connections": _always(899),
            "authsvc_connection_limit": _always(1000),
            "authsvc_web_connections": _always(1),
            "authsvc_web_connection_limit": _always(1024),
        },
    ),
    Case(
        "AuthsvcAnswersUnread",
        {'authsvc_limited_total{limit="unread"}': _ONCE},
        {'authsvc_limited_total{limit="unread"}': _always(3), 'authsvc_limited_total{limit="caller"}': _ONCE},
    ),
    Case(
        "AuthsvcLoansFail",
        {
            'authsvc_rate_limit_loans_total{outcome="failed"}': _always(0),
            'authsvc_credit_loans_total{outcome="failed"}': _ONCE,
        },
        {
            'authsvc_rate_limit_loans_total{outcome="failed"}': _always(3),
            'authsvc_credit_loans_total{outcome="failed"}': _always(0),
            'authsvc_credit_loans_total{outcome="refused"}': _rising(1),
        },
    ),
    Case(
        "AuthsvcAuditDrops",
        {
            "authsvc_audit_refusals_dropped_total": _always(0),
            "authsvc_audit_refused_addresses_dropped_total": _always(0),
            "authsvc_audit_confirmations_dropped_total": _ONCE,
        },
        {
            "authsvc_audit_refusals_dropped_total": _always(7),
            "authsvc_audit_refused_addresses_dropped_total": _always(0),
            "authsvc_audit_confirmations_dropped_total": _always(0),
            # After the retention, events are dropped as they should be.
            "authsvc_audit_events_dropped_total": _rising(1),
        },
    ),
    Case(
        "AuthsvcRowsRefused",
        {'authsvc_rows_refused_total{kind="activity"}': _ONCE},
        {'authsvc_rows_refused_total{kind="activity"}': _always(3)},
    ),
    Case(
        "AuthsvcUsesDropped",
        {"authsvc_uses_dropped_total": _ONCE},
        {"authsvc_uses_dropped_total": _always(3)},
    ),
    Case(
        "AuthsvcKeyStringsLost",
        {"authsvc_key_strings_lost_total": _ONCE},
        {"authsvc_key_strings_lost_total": "0x85 1x35"},
    ),
    Case(
        "AuthsvcLogLinesDropped",
        # A series that is not there before its first line.
        {'authsvc_log_lines_dropped_total{logger="x"}': "_x75 5+5x45"},
        {'authsvc_log_lines_dropped_total{logger="x"}': _always(100)},
    ),
    Case(
        "AuthsvcGuessing",
        {
            'authsvc_rpc_errors_total{code="UNAUTHENTICATED"}': _rising(180),
            'authsvc_verdicts_total{code="NOT_FOUND"}': _rising(180),
        },
        {
            'authsvc_rpc_errors_total{code="UNAUTHENTICATED"}': _rising(120),
            'authsvc_verdicts_total{code="NOT_FOUND"}': _rising(120),
        },
    ),
    Case(
        "AuthsvcNotificationsLate",
        {'authsvc_notifications_oldest_seconds{kind="webhook"}': _always(700)},
        {
            'authsvc_notifications_oldest_seconds{kind="webhook"}': _always(500),
            'authsvc_notifications_oldest_seconds{kind="mail"}': _always(500),
            'authsvc_notifications_oldest_seconds{kind="notification"}': _always(50),
        },
    ),
    Case(
        "AuthsvcMailFails",
        _attempts("mail", _rising(1), _always(9)),
        _attempts("mail", _rising(10), _rising(0.1)),
    ),
    Case(
        "AuthsvcWebhooksFail",
        _attempts("webhook", _rising(1), _always(9)),
        _attempts("webhook", _rising(10), _rising(0.1)),
    ),
    Case(
        "AuthsvcCertificateExpires",
        {f"authsvc_certificate_seconds{{{_WORKER}}}": _always(6.9 * 86400)},
        {f"authsvc_certificate_seconds{{{_WORKER}}}": _always(7.1 * 86400)},
    ),
    Case(
        "AuthsvcCertificateExpiresSoon",
        {f"authsvc_certificate_seconds{{{_WORKER}}}": _always(80_000)},
        {f"authsvc_certificate_seconds{{{_WORKER}}}": _always(90_000)},
    ),
    Case(
        "AuthsvcFileStale",
        {f"authsvc_stale_files{{{_WORKER}}}": _always(1)},
        {f"authsvc_stale_files{{{_WORKER}}}": "0x88 1 0x30"},
    ),
)
