"""Settings from the environment, all named `AUTHSVC_*`, checked before anything starts."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from authsvc.config.address import Listen, OptionalListen, check_free
from authsvc.config.brand import Brand
from authsvc.config.client_settings import ClientSettings
from authsvc.config.comma_separated import Paths
from authsvc.config.cores import usable_cores
from authsvc.config.credential_sources import CredentialSourceNames
from authsvc.config.database_url import DatabaseUrl
from authsvc.config.duration import Duration, between
from authsvc.config.error import ConfigError as ConfigError
from authsvc.config.leak_settings import LeakSettings
from authsvc.config.networks import TrustedNetworks
from authsvc.config.notification_settings import NotificationSettings
from authsvc.config.rate_limit import RateLimit
from authsvc.config.scopes import Catalogue, ScopeNames
from authsvc.config.secret_files import NAMED, SUFFIX, SecretFiles, is_secret, refuse_fault
from authsvc.config.session_settings import SessionSettings
from authsvc.config.telemetry_settings import TelemetrySettings
from authsvc.config.unknown_setting import remedy
from authsvc.config.usage_settings import UsageSettings
from authsvc.config.web_settings import WebSettings
from authsvc.model.policy import KeyEdits, KeyManagers
from authsvc.model.rate import Rate
from authsvc.net.listen_address import ListenAddress

PREFIX = "AUTHSVC_"
# The bounds of settings that are times.
_MS, _SECOND, _MINUTE = timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=1)
_HOUR, _DAY, _CENTURY = timedelta(hours=1), timedelta(days=1), timedelta(days=36500)


class Settings(
    ClientSettings,
    LeakSettings,
    NotificationSettings,
    SessionSettings,
    TelemetrySettings,
    UsageSettings,
    WebSettings,
):
    """Each setting is `AUTHSVC_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    listen: Listen = Field(
        ListenAddress("127.0.0.1", 50051), description="address to serve gRPC on, host:port"
    )
    transport: Literal["lane", "grpcio"] = Field(
        "lane", description="what serves gRPC: authsvc's own transport, or that of grpcio, which is slower"
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate to serve with, followed by its chain; empty: plain text",
    )
    tls_key: Path | None = Field(None, description="PEM file of its private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of authorities; every client must show a certificate of one of them"
    )
    tls_client_auth: Literal["required", "optional"] = Field(
        "required", description="optional: clients without a certificate of AUTHSVC_TLS_CLIENT_CA may connect"
    )
    callers: Path | None = Field(
        None,
        description="TOML file of the callers that client certificates identify, for calls without a key",
    )
    insecure: Literal["", "plaintext-beyond-loopback"] = Field(
        "", description="plaintext-beyond-loopback: serve, and call, other machines without TLS"
    )
    trusted_proxies: TrustedNetworks = Field(
        (), description="comma-separated networks whose x-forwarded-for is trusted, for instance 10.1.0.0/16"
    )
    scopes: Catalogue = Field(
        (),
        description="scopes that keys and sessions may have besides authsvc's own: "
        "orders:read=Read orders,orders:write or one per line; *: any",
    )
    anonymous_scopes: ScopeNames = Field(
        (),
        description="comma-separated scopes of calls without any credential, on every owner; empty: refused",
    )
    caller_limit: RateLimit = Field(
        Rate(50, 200),
        description="calls other than verifications, by the callers of one owner, per worker: "
        "rate per second/burst; 0: no limit",
    )
    failure_limit: RateLimit = Field(
        Rate(5, 50),
        description="failed authentications from one address, per worker: rate per second/burst; 0: no limit",
    )
    in_flight_limit: int = Field(
        2000,
        ge=2,
        le=1_000_000,
        description="maximum number of calls in flight, per worker; "
        "calls other than verifications can use half of it",
    )
    stranger_limit: RateLimit = Field(
        Rate(20, 100),
        description="unauthenticated calls from one address that a worker answers without delay: "
        "rate per second/burst; the others wait a second; 0: no limit",
    )
    connection_limit: int = Field(
        1000, ge=8, le=100_000, description="maximum number of client connections, per worker"
    )
    reflection: bool = Field(True, description="whether gRPC reflection (for grpcurl) is served")
    workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=256,
        description="number of worker processes; default: one per core",
    )
    connection_age: Annotated[Duration, between(_MS, _DAY, or_zero="for never")] = Field(
        timedelta(minutes=1),
        description="age at which a connection is closed, so that clients spread over the workers; 0: never",
    )
    admin_listen: OptionalListen = Field(
        None,
        description="address of probes and Prometheus metrics, for all workers, host:port; empty: off",
    )
    data_dir: Path = Field(Path(".data"), description="where `authsvc dev` keeps its database and keys")
    database_url: DatabaseUrl | None = Field(None, description="postgresql://…, with the role that serves")
    migration_database_url: DatabaseUrl | None = Field(
        None, description="postgresql://…, with the role that owns the schema; default: AUTHSVC_DATABASE_URL"
    )
    database_pool_size: int = Field(
        14, ge=1, le=1000, description="maximum number of connections to PostgreSQL, per worker"
    )
    wait_for_database: Annotated[Duration, between(_MS, _DAY, or_zero="not to wait")] = Field(
        timedelta(0),
        description="how long `authsvc serve` waits at its start for a reachable and migrated database",
    )
    lease: Annotated[Duration, between(_SECOND, _HOUR)] = Field(
        timedelta(seconds=30),
        description="how long workers answer from memory without the database; "
        "a revocation waits this long for an unreachable worker",
    )
    holders: int = Field(100, ge=0, le=10_000, description="clients that hold keys, per worker; 0: none")
    holder_lease: Annotated[Duration, between(_SECOND, _MINUTE)] = Field(
        timedelta(seconds=5), description="how long a revocation waits for such a client out of reach"
    )
    feed: Literal["listen", "poll"] = Field(
        "listen",
        description="how workers learn of changes; poll: for poolers in transaction mode",
    )
    feed_poll_interval: Annotated[Duration, between(_MS, _MINUTE)] = Field(
        timedelta(milliseconds=100), description="how often the feed is read if no notifications arrive"
    )
    brand: Brand = Field("authsvc", description="first part of new key strings")
    default_keys_enabled: bool = Field(
        True, description="whether owners without a policy of their own have API keys"
    )
    default_max_active_keys: int = Field(
        0,
        ge=0,
        le=100_000,
        description="maximum number of active keys of an owner without a policy of its own; 0: no limit",
    )
    default_allowed_scopes: ScopeNames = Field(
        (),
        description="comma-separated scopes that keys of an owner without a policy of its own may have; "
        "empty: any",
    )
    default_max_key_lifetime: Annotated[Duration, between(_SECOND, _CENTURY, or_zero="for no limit")] = Field(
        timedelta(0),
        description="maximum lifetime of keys of an owner without a policy of its own; 0: no limit",
    )
    default_expiration_required: bool = Field(
        False, description="whether keys of an owner without a policy of its own must have an expiry"
    )
    default_contacts_required: bool = Field(
        False,
        description="whether keys of an owner without a policy of its own must have a technical contact",
    )
    default_key_edits: KeyEdits = Field(
        KeyEdits.ALL,
        description="which fields of keys of an owner without a policy of its own may be changed: "
        "none, details or all",
    )
    default_key_managers: KeyManagers = Field(
        KeyManagers.ANY,
        description="who may manage keys of an owner without a policy of its own: any or sessions_only",
    )
    cache_capacity: int = Field(200_000, ge=1000, description="keys in memory, 1 KiB each, per worker")
    argon2_threads: int = Field(
        default_factory=lambda given: max(1, usable_cores() // given.get("workers", 1)),
        ge=1,
        le=256,
        description="secrets verified at the same time, per worker; default: cores / workers",
    )
    argon2_queue: int = Field(
        1024, ge=1, description="secrets waiting to be verified, per worker, before calls are refused"
    )
    audit_retention: Annotated[
        Duration, between(timedelta(days=90), _CENTURY, or_zero="to keep them forever")
    ] = Field(timedelta(days=400), description="how long audit events are kept, in whole months; 0: forever")
    geoip_db: Paths = Field(
        (), description="comma-separated MMDB files of the locations of addresses; empty: no locations"
    )
    http_listen: OptionalListen = Field(
        None,
        description="address to serve GET /check on, host:port, for proxies that check requests over HTTP; "
        "empty: off",
    )
    gateway_credentials: CredentialSourceNames = Field(
        ("bearer", "basic", "x-api-key"),
        description="comma-separated places where clients of proxies send credentials: "
        "bearer, basic, x-api-key, cookie:NAME",
    )
    gateway_keep_credential: bool = Field(
        False, description="whether proxies forward the credential to the upstream"
    )
    routes: Path | None = Field(
        None,
        description="TOML file of the scopes that proxied routes require; empty: the proxies specify them",
    )
    drain_delay: Annotated[Duration, between(timedelta(0), _HOUR)] = Field(
        timedelta(0),
        description="how long calls are still accepted at a stop, with readiness already false, so that "
        "load balancers notice",
    )
    drain_grace: Annotated[Duration, between(timedelta(0), _HOUR)] = Field(
        timedelta(seconds=10), description="how long calls in flight may take at a stop"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum level of log lines"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, otherwise JSON"
    )
    _refuse_fault = field_validator("*", mode="before")(refuse_fault)
    _check_free = field_validator("listen", "admin_listen", "http_listen")(check_free)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, the first one that has one counts."""
        return init_settings, SecretFiles(settings_cls), env_settings


def secret_names() -> list[str]:
    """Return the names of the settings that are secrets."""
    return [name for name, field in Settings.model_fields.items() if is_secret(field)]


def load_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with those given in their place.

    Raises ConfigError that names each unknown or wrong setting; no value is shown, since some are secret.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {f"{PREFIX}{name.upper()}{SUFFIX}" for name in secret_names()}
    problems = [
        f"{name}: not a setting of authsvc; {remedy(name, known, PREFIX)}"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems += [
            _told(detail)
            for detail in error.errors(include_input=False, include_url=False)
            # A default that depends on a wrong setting: nothing is wrong with this one.
            if detail["type"] != "default_factory_not_called"
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _told(detail: ErrorDetails) -> str:
    """Return an error with the name of the variable that has to be corrected."""
    if detail["type"] == NAMED:
        return detail["msg"]
    name = PREFIX + str(detail["loc"][0]).upper()
    is_in_file = name + SUFFIX in map(str.upper, os.environ) and not os.environ.get(name)
    return f"{name}{SUFFIX if is_in_file else ''}: {detail['msg'].removeprefix('Value error, ')}"
