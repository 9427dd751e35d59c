"""Settings from the environment: what is accepted, what is refused, what is never shown."""

import os
import re
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from authsvc.app.defaults import default_policy_of
from authsvc.cli.service import settings
from authsvc.config.duration import parse_duration
from authsvc.config.settings import ConfigError, Settings, load_settings
from authsvc.model.policy import KeyEdits, KeyManagers, OwnerPolicy
from authsvc.model.rate import Rate
from authsvc.model.scope import Scope

SECRET = "hunter2"
DURATION = (
    "use a number and its unit, for instance 500ms, 30s, 5m, 12h or 30d; a number without a unit is seconds"
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's own settings from the tests."""
    for name in list(os.environ):
        if name.upper().startswith("AUTHSVC_"):
            monkeypatch.delenv(name)


def refusal(**given: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_settings(**given)
    return str(refused.value)


def test_defaults_are_enough() -> None:
    """No setting is required to try the service out; it listens on this machine only."""
    assert str(load_settings().listen) == "127.0.0.1:50051"
    assert load_settings().data_dir == Path(".data")


@pytest.mark.parametrize("name", ["AUTHSVC_LISTEN", "authsvc_listen", "Authsvc_Listen"])
def test_a_setting_is_taken_in_any_case(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Capitals are usual, and lower case works."""
    monkeypatch.setenv(name, "127.0.0.1:1")
    assert str(load_settings().listen) == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("AUTHSVC_LISTENS", "did you mean AUTHSVC_LISTEN?"),
        ("authsvc_listen_", "did you mean AUTHSVC_LISTEN?"),
        ("AUTHSVC_DATABASE_UR", "did you mean AUTHSVC_DATABASE_URL?"),
        ("AUTHSVC_", "`authsvc settings` lists all of them"),
        ("authsvc_pepper_for_secrets", "`authsvc settings` lists all of them"),
    ],
)
def test_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, remedy: str) -> None:
    """A mistyped name is not ignored. The message suggests a similar name, and does not show the value."""
    monkeypatch.setenv(name, SECRET)
    told = refusal()
    assert told == f"{name}: not a setting of authsvc; {remedy}"
    assert SECRET not in told


def test_given_values_stand_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of the program take precedence."""
    monkeypatch.setenv("AUTHSVC_BRAND", "eg")
    assert load_settings(brand="acme").brand == "acme"
    assert load_settings().brand == "eg"


@pytest.mark.parametrize("field", ["listen", "http_listen", "admin_listen", "web_listen"])
@pytest.mark.parametrize(
    "value",
    ["localhost", ":1", "127.0.0.1:", "127.0.0.1:65536", "::1:1", "[:::]:1", "[::1:1", "a b:1", "h:1\n"],
)
def test_an_address_is_host_and_port(field: str, value: str) -> None:
    """An invalid one is refused with an example."""
    assert refusal(**{field: value}) == (
        f"AUTHSVC_{field.upper()}: use host:port, for instance 127.0.0.1:50051 or [::1]:50051"
    )


@pytest.mark.parametrize(
    "value", ["127.0.0.1:0", "localhost:65535", "[::1]:1", "[::]:50051", "a-b.example.org:1"]
)
def test_an_address_can_be_a_name_or_a_number(value: str) -> None:
    """Names, IPv4 and bracketed IPv6 are addresses."""
    for field in ("listen", "http_listen", "admin_listen", "web_listen", "address"):
        given = {"listen": "127.0.0.1:0", field: value}
        assert str(getattr(load_settings(**given), field)) == value


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"admin_listen": "127.0.0.1:50051"}, "ADMIN_LISTEN: 127.0.0.1:50051 has the port of AUTHSVC_LISTEN"),
        ({"admin_listen": "[::]:50051"}, "ADMIN_LISTEN: [::]:50051 has the port of AUTHSVC_LISTEN"),
        ({"listen": "0.0.0.0:7", "admin_listen": "10.0.0.1:7"}, "ADMIN_LISTEN: 10.0.0.1:7 has the port"),
        ({"web_listen": "127.0.0.1:50051"}, "LISTEN: 127.0.0.1:50051 has the port of AUTHSVC_WEB_LISTEN"),
        (
            {"http_listen": "[::]:7", "web_listen": "[::1]:7"},
            "HTTP_LISTEN: [::]:7 has the port of AUTHSVC_WEB",
        ),
        (
            {"admin_listen": "[::]:7", "web_listen": "[::1]:7"},
            "ADMIN_LISTEN: [::]:7 has the port of AUTHSVC_WEB",
        ),
        ({"http_listen": "localhost:50051"}, "HTTP_LISTEN: localhost:50051 has the port of AUTHSVC_LISTEN"),
        (
            {"http_listen": "127.0.0.1:7", "admin_listen": "127.0.0.1:7"},
            "HTTP_LISTEN: 127.0.0.1:7 has the port of AUTHSVC_ADMIN_LISTEN, 127.0.0.1:7; use another port",
        ),
    ],
)
def test_two_servers_at_one_port(given: dict[str, str], told: str) -> None:
    """Both settings are named. One of the servers would try to listen for ever."""
    assert refusal(**given).startswith(f"AUTHSVC_{told}")


def test_servers_that_do_not_collide() -> None:
    """Any free port, another port, another address."""
    load_settings(listen="127.0.0.1:0", http_listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
    load_settings(listen="[::]:1", http_listen="[::]:2", admin_listen="[::]:3", web_listen="[::]:4")
    load_settings(listen="127.0.0.1:1", http_listen="[::1]:1", admin_listen="127.0.0.2:1")
    load_settings(listen="0.0.0.0:1", admin_listen="[::1]:1")


@pytest.mark.parametrize("hosts", ["db1:5432, db2", "db1,,db2", "db1,,", "db1:5432 ,db2", " db1"])
@pytest.mark.parametrize("user", ["", f"u:{SECRET}@"])
def test_a_list_of_hosts_is_not_blamed_on_the_password(hosts: str, user: str) -> None:
    assert refusal(database_url=f"postgresql://{user}{hosts}/d") == (
        "AUTHSVC_DATABASE_URL: its list of hosts has a space or an empty entry; "
        "write it like host1:5432,host2:5432"
    )


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("", {}),
        ("orders:read", {"orders:read": ""}),
        (" orders:read , orders:write ,", {"orders:read": "", "orders:write": ""}),
        ("a:b:c,d.e-f_g", {"a:b:c": "", "d.e-f_g": ""}),
        ("a=Do a, b,c = 1 = 1", {"a": "Do a", "b": "", "c": "1 = 1"}),
        ("\na=Do a, and b\n\n  b=\nc\n", {"a": "Do a, and b", "b": "", "c": ""}),
        ("a=Do a\n", {"a": "Do a"}),
        ("a=\u3000Zoe\u0308 👨\u200d👩\u200d👧\u00a0", {"a": "Zoë 👨\u200d👩\u200d👧"}),
        (" * ", None),
    ],
)
def test_scopes_and_what_they_allow(value: str, scopes: dict[str, str] | None) -> None:  # rule 2
    """Separated by commas or one per line; spaces and an extra comma are ignored; a star allows any scope."""
    expected = None if scopes is None else tuple(Scope(*pair) for pair in scopes.items())
    assert load_settings(scopes=value).scopes == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "a=Do a, and b",
            "'and b' is not a valid scope; use a form like orders:read; if descriptions have commas, "
            "write one scope per line",
        ),
        ("=Do a", "'' is not a valid scope; use a form like orders:read"),
        ("a,b,a", "a is listed twice; remove one of them"),
        ("a,*", "'*' is not a valid scope; use a form like orders:read"),
        (
            "a=Do\u202e a",
            "the description of a holds U+202E (RIGHT-TO-LEFT OVERRIDE), which changes the direction of text",
        ),
        ("a=Do\u200b a", "the description of a holds U+200B (ZERO WIDTH SPACE), which people cannot see"),
        ("a=Do\u2028 a", "the description of a holds U+2028 (LINE SEPARATOR); use one line"),
        (f"b,a={501 * 'x'}", "the description of a has 501 characters; use at most 500"),
        (",".join(map(str, range(1001))), "there are 1001 scopes; use at most 1000, or * for any"),
    ],
)
def test_a_bad_list_of_scopes(value: str, told: str) -> None:  # rule 2
    """The error says what is wrong, and what to write instead."""
    assert refusal(scopes=value).startswith(f"AUTHSVC_SCOPES: {told}")


@pytest.mark.parametrize("scope", ["Orders", "orders:", ":read", "a b", "a" * 65, "a*"])
def test_a_bad_scope_is_named(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:  # rule 2
    """The scope and the right form are named."""
    monkeypatch.setenv("AUTHSVC_SCOPES", f"orders:read,{scope}")
    assert refusal() == f"AUTHSVC_SCOPES: {scope!r} is not a valid scope; use a form like orders:read"


@pytest.mark.parametrize("field", ["database_url", "migration_database_url"])
@pytest.mark.parametrize("value", ["", SECRET, f"mysql://u:{SECRET}@h/d", f" postgresql://u:{SECRET}@h/d"])
def test_a_bad_database_url_is_not_shown(field: str, value: str) -> None:
    """The form is named, but not the value, since it contains a password."""
    told = refusal(**{field: value})
    assert told == (
        f"AUTHSVC_{field.upper()}: use postgresql://user:password@host:port/database; "
        "in user and password write / # ? @ : % as %2F %23 %3F %40 %3A %25"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("database_pool_size", "0"),
        ("database_pool_size", "ten"),
        ("argon2_threads", "257"),
        ("cache_capacity", "0"),
        ("usage_interval", "0"),
        ("drain_grace", "-1"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("brand", "E"),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: str) -> None:
    """The setting is named; one line shows the valid values."""
    [line] = refusal(**{field: value}).splitlines()
    assert line.startswith(f"AUTHSVC_{field.upper()}: ")


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All invalid settings are reported at once."""
    monkeypatch.setenv("AUTHSVC_FOO", "1")
    told = refusal(listen="x", brand="E").splitlines()
    assert [line.partition(":")[0] for line in told] == ["AUTHSVC_FOO", "AUTHSVC_LISTEN", "AUTHSVC_BRAND"]


def test_secrets_do_not_show() -> None:
    """Settings can be printed: passwords and key strings are masked."""
    loaded = load_settings(database_url=f"postgresql://u:{SECRET}@h/d", key=SECRET)
    assert SECRET not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.model_dump_json()}"


def test_every_setting_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    """The list has each setting, with its description and its default."""
    settings()
    listed = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"AUTHSVC_{name.upper()} " in listed
        assert field.description
        assert field.description in listed


def test_the_list_of_settings_shows_no_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows defaults, not the current settings."""
    monkeypatch.setenv("AUTHSVC_KEY", SECRET)
    settings()
    assert SECRET not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SESSION_IDLE_TIMEOUT", "10 m", DURATION),
        ("SESSION_IDLE_TIMEOUT", "10", "use 1m to 36500d"),
        ("SESSION_IDLE_TIMEOUT", "59s", "use 1m to 36500d"),
        (
            "SESSION_LIFETIME_MAX",
            "7d",
            "is less than the default, AUTHSVC_SESSION_LIFETIME; raise it, or lower that",
        ),
        ("SESSION_RETENTION", "-1d", "use 1h to 36500d"),
        ("SESSION_RETENTION", "59m", "use 1h to 36500d"),
        ("SESSION_RETENTION", "2000000d", "use 1h to 36500d"),
        ("AUDIT_RETENTION", "89d", "use 90d to 36500d, or 0 to keep them forever"),
        ("AUDIT_RETENTION", "40000d", "use 90d to 36500d, or 0 to keep them forever"),
        ("ACTIVITY_INTERVAL", "16", "use 1ms to 15s"),
        ("ACTIVITY_INTERVAL", "0", "use 1ms to 15s"),
        ("USAGE_INTERVAL", "61m", "use 1ms to 1h"),
        ("FEED_POLL_INTERVAL", "0", "use 1ms to 1m"),
        ("FEED_POLL_INTERVAL", "61", "use 1ms to 1m"),
        ("LEASE", "999ms", "use 1s to 1h"),
        ("LEASE", "3601", "use 1s to 1h"),
        ("LEASE", "soon", DURATION),
        ("CONNECTION_AGE", "-1", "use 1ms to 1d, or 0 for never"),
        ("CONNECTION_AGE", "25h", "use 1ms to 1d, or 0 for never"),
        ("DRAIN_GRACE", "-1", "use 0 to 1h"),
        ("DRAIN_GRACE", "61m", "use 0 to 1h"),
        ("DEFAULT_MAX_KEY_LIFETIME", "1ms", "use 1s to 36500d, or 0 for no limit"),
        ("DEFAULT_ROTATION_PERIOD", "1ms", "use 1s to 36500d, or 0 for never"),
    ],
)
def test_lengths_of_time_are_checked(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """Each is named, with what to write instead."""
    monkeypatch.setenv(f"AUTHSVC_{name}", value)
    assert refusal() == f"AUTHSVC_{name}: {told}"


def test_lengths_of_sessions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, minutes, hours or days."""
    monkeypatch.setenv("AUTHSVC_SESSION_IDLE_TIMEOUT", "30m")
    monkeypatch.setenv("AUTHSVC_SESSION_LIFETIME", "12h")
    settings = load_settings()
    assert settings.session_idle_timeout == timedelta(minutes=30)
    assert settings.session_lifetime == timedelta(hours=12)


# Every setting that is a duration, with a value within its bounds.
_LENGTHS = {
    "connection_age": "90s",
    "wait_for_database": "90s",
    "lease": "90s",
    "holder_lease": "5s",
    "feed_poll_interval": "1500ms",
    "default_max_key_lifetime": "90d",
    "usage_interval": "90s",
    "activity_interval": "1500ms",
    "session_idle_timeout": "90m",
    "session_idle_timeout_max": "90d",
    "session_lifetime": "90h",
    "session_lifetime_max": "90d",
    "session_retention": "90h",
    "audit_retention": "100d",
    "usage_retention": "100d",
    "drain_delay": "90s",
    "drain_grace": "90s",
    "default_rotation_period": "30d",
}


def test_every_length_of_time_takes_the_same_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a unit, and without one as seconds, also if the program passes a number."""
    times = {name for name, field in Settings.model_fields.items() if field.annotation is timedelta}
    assert times == set(_LENGTHS)
    for name, text in _LENGTHS.items():
        length = parse_duration(text)
        for value in (text, f"{length.total_seconds():.3f}"):
            monkeypatch.setenv(f"AUTHSVC_{name.upper()}", value)
            assert getattr(load_settings(), name) == length
        assert getattr(load_settings(**{name: length.total_seconds()}), name) == length


def test_no_setting_is_a_number_of_seconds() -> None:
    """A setting that is added later is a duration, too. The only other number with a point is a share."""
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation is float]
    assert numbers == ["verification_sampling"]


def test_defaults_that_are_times_are_shown_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Values from the list can be set."""
    settings()
    listed = capsys.readouterr().out
    for name, shown in (("LEASE", "30s"), ("CONNECTION_AGE", "1m"), ("FEED_POLL_INTERVAL", "100ms")):
        assert re.search(rf"AUTHSVC_{name} +{shown} ", listed)


def test_the_default_policy_has_no_limits() -> None:
    """Without settings, a policy adds no restrictions to those of the callers. It warns after 90 days."""
    assert default_policy_of(load_settings()) == OwnerPolicy(rotation_period=timedelta(days=90))


def test_the_default_policy_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its fields has a setting."""
    for name, value in {
        "KEYS_ENABLED": "false",
        "MAX_ACTIVE_KEYS": "5",
        "ALLOWED_SCOPES": "orders:write, orders:read,keys:read",
        "MAX_KEY_LIFETIME": "90d",
        "EXPIRATION_REQUIRED": "true",
        "CONTACTS_REQUIRED": "1",
        "KEY_EDITS": "details",
        "KEY_MANAGERS": "sessions_only",
        "ROTATION_PERIOD": "60d",
    }.items():
        monkeypatch.setenv(f"AUTHSVC_DEFAULT_{name}", value)
    monkeypatch.setenv("AUTHSVC_SCOPES", "orders:read,orders:write")
    assert default_policy_of(load_settings()) == OwnerPolicy(
        keys_enabled=False,
        max_active_keys=5,
        allowed_scopes=("keys:read", "orders:read", "orders:write"),
        max_key_lifetime=timedelta(days=90),
        expiration_required=True,
        contacts_required=True,
        key_edits=KeyEdits.DETAILS,
        key_managers=KeyManagers.SESSIONS_ONLY,
        rotation_period=timedelta(days=60),
    )


def test_proxies_are_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses and networks of both families, separated by commas; none by default."""
    assert load_settings().trusted_proxies == ()
    monkeypatch.setenv("AUTHSVC_TRUSTED_PROXIES", "10.1.0.0/16, 192.0.2.1,fd00::/8,")
    assert load_settings().trusted_proxies == tuple(
        ip_network(text) for text in ("10.1.0.0/16", "192.0.2.1/32", "fd00::/8")
    )


def test_proxies_of_ipv4_may_be_written_in_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the form that addresses of peers are compared with."""
    monkeypatch.setenv("AUTHSVC_TRUSTED_PROXIES", "::ffff:10.0.0.1,::ffff:10.0.0.0/104")
    assert load_settings().trusted_proxies == (ip_network("10.0.0.1/32"), ip_network("10.0.0.0/8"))


@pytest.mark.parametrize("value", ["10.1.0.1/16", "proxy", "10.1.0.0/33"])
def test_what_is_no_network_is_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error says what to write."""
    monkeypatch.setenv("AUTHSVC_TRUSTED_PROXIES", f"192.0.2.1,{value}")
    told = refusal()
    assert value in told
    assert told.endswith("; use comma-separated networks like 10.1.0.0/16, fd00::/8 or 192.0.2.1")


@pytest.mark.parametrize(
    "value", ["0.0.0.0/0", "10.0.0.0/8,::/0", "::ffff:0:0/96", "fd00::/8,::fffe:0:0/95", "::/3"]
)
def test_nobody_trusts_everybody(value: str) -> None:
    """Otherwise any sender could set the header."""
    assert refusal(trusted_proxies=value) == (
        "AUTHSVC_TRUSTED_PROXIES: with all addresses, any client could claim any address; name your proxies"
    )


def test_webhooks_are_not_let_into_all_networks() -> None:
    assert refusal(webhook_networks="10.0.0.0/8,::/0") == (
        "AUTHSVC_WEBHOOK_NETWORKS: with all addresses, tenants could call all of your network; name the "
        "networks of your receivers"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYS_ENABLED", "perhaps"),
        ("MAX_ACTIVE_KEYS", "-1"),
        ("MAX_ACTIVE_KEYS", "100001"),
        ("ALLOWED_SCOPES", "Orders"),
        ("ALLOWED_SCOPES", "orders:write"),
        ("MAX_KEY_LIFETIME", "90 days"),
        ("MAX_KEY_LIFETIME", "36501d"),
        ("ROTATION_PERIOD", "90 days"),
        ("ROTATION_PERIOD", "36501d"),
        ("KEY_EDITS", "some"),
        ("KEY_MANAGERS", "sessions-only"),
    ],
)
def test_a_default_policy_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:  # rule 2
    """The setting is named; a scope that does not exist is a mistake."""
    monkeypatch.setenv("AUTHSVC_SCOPES", "orders:read")
    monkeypatch.setenv(f"AUTHSVC_DEFAULT_{name}", value)
    [line] = refusal().splitlines()
    assert line.startswith(f"AUTHSVC_DEFAULT_{name}: ")


def test_callers_without_a_credential_have_scopes_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped one has no effect, so it is a mistake."""
    monkeypatch.setenv("AUTHSVC_ANONYMOUS_SCOPES", "keys:verify, session:verify")
    assert (
        refusal()
        == "AUTHSVC_ANONYMOUS_SCOPES: session:verify not in AUTHSVC_SCOPES; add it there, or remove it here"
    )
    monkeypatch.setenv("AUTHSVC_ANONYMOUS_SCOPES", "keys:verify, sessions:verify")
    assert load_settings().anonymous_scopes == ("keys:verify", "sessions:verify")


@pytest.mark.parametrize(
    ("value", "rate"), [("50/200", Rate(50, 200)), ("0.5/1", Rate(0.5, 1)), ("0", Rate(0, 0))]
)
def test_a_limit_is_a_rate_and_a_burst(monkeypatch: pytest.MonkeyPatch, value: str, rate: Rate) -> None:
    """The rate per second and the burst; 0 is no limit."""
    for name in ("CALLER_LIMIT", "FAILURE_LIMIT"):
        monkeypatch.setenv(f"AUTHSVC_{name}", value)
    settings = load_settings()
    assert (settings.caller_limit, settings.failure_limit) == (rate, rate)


@pytest.mark.parametrize("value", ["50", "50/0", "0/50", "-1/5", "5/1.5", "a/b", "1/2/3", "0.0/1"])
def test_what_is_no_limit_is_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error says what to write."""
    monkeypatch.setenv("AUTHSVC_CALLER_LIMIT", value)
    told = (
        "AUTHSVC_CALLER_LIMIT: use rate/burst, for instance 50/200 for 50 per second and 200 at once; "
        "or 0 for no limit"
    )
    assert refusal() == told


def test_an_address_may_say_that_it_is_by_tls() -> None:
    """Only for the command line."""
    assert load_settings(address="https://h:1").address == "https://h:1"
    for value in (
        "http://h:1",
        "localhost",
        "https://h",
        "::1:1",
        ":1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "https://h:99999",
        "a b:1",
        "h:1\n",
    ):
        assert refusal(address=value) == (
            "AUTHSVC_ADDRESS: use host:port, for instance 127.0.0.1:50051, or https://host:port for TLS"
        )
    assert refusal(listen="https://h:1").startswith("AUTHSVC_LISTEN: use host:port")
