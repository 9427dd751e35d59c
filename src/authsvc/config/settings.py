"""Settings from the environment, all named `AUTHSVC_*`, checked before anything starts."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from authsvc.config.addresses import Listen, OptionalListen, ServiceAddress
from authsvc.config.duration import Duration, between
from authsvc.model.activity import MAX_INTERVAL, SHORTEST_TIMEOUT
from authsvc.model.address import Network, network
from authsvc.model.policy import KeyEdits, KeyManagers
from authsvc.model.rate import Rate
from authsvc.model.scope import OWN_SCOPES, Scope, is_scope
from authsvc.model.text import fault, kept
from authsvc.net.listen_address import ListenAddress

PREFIX = "AUTHSVC_"
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)/(\d{1,6})")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/]*)(:0*[1-9]\d{0,4})?")

_MS, _SECOND, _HOUR, _DAY = (
    timedelta(milliseconds=1),
    timedelta(seconds=1),
    timedelta(hours=1),
    timedelta(days=1),
)
_CENTURY = timedelta(days=36500)
_MAX_SCOPES = 1000


def _cores() -> int:
    """Return how many cores we may use, which in a container are not all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ConfigError(Exception):
    """A setting is unknown or wrong; the message names it and says what to do."""


class Settings(BaseSettings):
    """Each setting is `AUTHSVC_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    listen: Listen = Field(ListenAddress("127.0.0.1", 50051), description="where to serve gRPC, host:port")
    tls_cert: Path | None = Field(
        None, description="PEM file of the certificate to serve with, its chain after it; empty: plain text"
    )
    tls_key: Path | None = Field(None, description="PEM file of its private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of authorities; every client has to show a certificate of one of them"
    )
    callers: Path | None = Field(
        None, description="TOML file that says who is who by client certificate, for calls without a key"
    )
    insecure: Literal["", "plaintext-beyond-loopback"] = Field(
        "", description="plaintext-beyond-loopback: serve, and call, other machines without TLS"
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="networks whose x-forwarded-for is believed, by commas, for instance 10.1.0.0/16"
    )
    scopes: Annotated[tuple[Scope, ...] | None, NoDecode] = Field(
        (),
        description="scopes that keys and sessions may have besides authsvc's own: "
        "orders:read=Read orders,orders:write or one a line; *: any",
    )
    anonymous_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="scopes of calls without any credential, on every owner, by commas; empty: refused"
    )
    caller_limit: Annotated[Rate, NoDecode] = Field(
        Rate(50, 200),
        description="calls other than verifications, of one owner's callers, a worker: "
        "a second / at once; 0: any number",
    )
    failure_limit: Annotated[Rate, NoDecode] = Field(
        Rate(5, 50),
        description="failed authentications from one address, a worker: a second / at once; 0: any number",
    )
    in_flight_limit: int = Field(
        2000,
        ge=2,
        le=1_000_000,
        description="calls in flight at most, a worker; half of it for what is no verification",
    )
    stranger_limit: Annotated[Rate, NoDecode] = Field(
        Rate(20, 100),
        description="calls of nobody who is known, from one address, that a worker answers at once: "
        "a second / at once; the others wait a second; 0: any number",
    )
    connection_limit: int = Field(
        1000, ge=8, le=100_000, description="connections of clients at most, a worker"
    )
    reflection: bool = Field(
        True, description="whether whoever connects may ask which RPCs there are, as grpcurl does"
    )
    workers: int = Field(
        default_factory=_cores, ge=1, le=256, description="processes that serve; default: one a core"
    )
    connection_age: Annotated[Duration, between(_MS, _DAY, or_zero="for never")] = Field(
        timedelta(minutes=5), description="after this a client has to reconnect, to any worker; 0: never"
    )
    metrics_listen: OptionalListen = Field(
        None,
        description="where to serve Prometheus metrics, host:port; worker 1 one port further; empty: nowhere",
    )
    data_dir: Path = Field(Path(".data"), description="where `authsvc dev` keeps its database and admin.key")
    database_url: SecretStr | None = Field(None, description="postgresql://…, the role that serves")
    migration_database_url: SecretStr | None = Field(
        None, description="postgresql://…, the role that owns the schema; default: the one that serves"
    )
    database_pool_size: int = Field(
        14, ge=1, le=1000, description="connections to PostgreSQL at most, a worker"
    )
    lease: Annotated[Duration, between(_SECOND, _HOUR)] = Field(
        timedelta(seconds=30),
        description="how long workers answer from memory without the database, "
        "and a revocation waits for a worker that is out of reach",
    )
    feed: Literal["listen", "poll"] = Field(
        "listen",
        description="how workers hear of changes; poll: for poolers that lend a connection per transaction",
    )
    feed_poll_interval: Annotated[Duration, between(_MS, timedelta(minutes=1))] = Field(
        timedelta(milliseconds=100), description="how often the feed is read where no hints arrive"
    )
    brand: str = Field("authsvc", description="first part of new key strings")
    default_keys_enabled: bool = Field(
        True, description="whether owners without a policy of their own have API keys"
    )
    default_max_active_keys: int = Field(
        0,
        ge=0,
        le=100_000,
        description="how many keys such an owner may have active at a time; 0: any number",
    )
    default_allowed_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="scopes that keys of such an owner may have, by commas; empty: any"
    )
    default_max_key_lifetime: Annotated[Duration, between(_SECOND, _CENTURY, or_zero="for no limit")] = Field(
        timedelta(0), description="how long keys of such an owner may live; 0: without limit"
    )
    default_expiration_required: bool = Field(
        False, description="whether keys of such an owner must have an expiry"
    )
    default_contacts_required: bool = Field(
        False, description="whether keys of such an owner must have a technical contact"
    )
    default_key_edits: KeyEdits = Field(
        KeyEdits.ALL, description="what may be changed of keys of such an owner: none, details or all"
    )
    default_key_managers: KeyManagers = Field(
        KeyManagers.ANY, description="who may manage keys of such an owner: any or sessions_only"
    )
    cache_capacity: int = Field(
        200_000, ge=1000, description="keys kept in memory, about 1 KiB each, a worker"
    )
    argon2_threads: int = Field(
        default_factory=lambda given: max(1, _cores() // given.get("workers", 1)),
        ge=1,
        le=256,
        description="secrets proved at the same time, a worker; default: cores / workers",
    )
    argon2_queue: int = Field(
        1024, ge=1, description="secrets waiting to be proved, a worker, before calls are refused"
    )
    usage_interval: Annotated[Duration, between(_MS, _HOUR)] = Field(
        timedelta(seconds=5), description="how often last uses are written"
    )
    activity_interval: Annotated[Duration, between(_MS, timedelta(seconds=MAX_INTERVAL))] = Field(
        timedelta(seconds=5), description="how often the last activity of sessions is written"
    )
    session_idle_timeout: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=7), description="how long a session lives without activity, if its client does not say"
    )
    session_idle_timeout_max: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=30), description="the longest idle timeout that a client can ask for"
    )
    session_lifetime: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=30), description="how long a session lives at most, if its client does not say"
    )
    session_lifetime_max: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=365), description="the longest lifetime that a client can ask for"
    )
    session_retention: Annotated[Duration, between(_HOUR, _CENTURY)] = Field(
        timedelta(days=30), description="how long ended sessions are kept to be looked at"
    )
    audit_retention: Annotated[
        Duration, between(timedelta(days=90), _CENTURY, or_zero="to keep them for good")
    ] = Field(timedelta(days=400), description="how long audit events are kept, by whole months; 0: for good")
    geoip_db: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="MMDB files that say where an address is, by commas; empty: no locations"
    )
    http_listen: OptionalListen = Field(
        None, description="where proxies that ask over HTTP find GET /check, host:port; empty: nowhere"
    )
    gateway_credentials: Annotated[tuple[str, ...], NoDecode] = Field(
        ("bearer", "basic", "x-api-key"),
        description="where clients of proxies show keys, by commas: bearer, basic, x-api-key, cookie:NAME",
    )
    gateway_keep_credential: bool = Field(
        False, description="whether proxies send the credential on to what they protect"
    )
    routes: Path | None = Field(
        None, description="TOML file of the scopes that proxied routes need; empty: the proxies say"
    )
    drain_grace: Annotated[Duration, between(timedelta(0), _HOUR)] = Field(
        timedelta(seconds=10), description="how long calls in flight may take at a stop"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what to log")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, else json"
    )
    # For the command line as a client.
    address: ServiceAddress = Field(
        "", description="the service that `authsvc keys` and its like call; default: the one of `listen`"
    )
    key: SecretStr | None = Field(None, description="the key string that they call with")

    call_tls_ca: Path | None = Field(
        None, description="PEM file of the authority that they trust; they call by TLS then"
    )
    call_tls_cert: Path | None = Field(None, description="PEM file of the certificate that they show")
    call_tls_key: Path | None = Field(None, description="PEM file of its private key")

    @field_validator("anonymous_scopes", "default_allowed_scopes", mode="before")
    @classmethod
    def _split_scopes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        scopes = tuple(scope.strip() for scope in value.split(",") if scope.strip())
        for scope in scopes:
            if not is_scope(scope):
                raise ValueError(f"{scope!r} is no scope; use a form like orders:read")
        return scopes

    @field_validator("gateway_credentials", mode="before")
    @classmethod
    def _split_carriers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        for name in names:
            if re.fullmatch(r"bearer|basic|x-api-key|cookie:[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) is None:
                raise ValueError(f"{name!r} is none; use bearer, basic, x-api-key or cookie:NAME")
        if not names or sum(name.startswith("cookie:") for name in names) > 1 or len(set(names)) < len(names):
            raise ValueError("name one place or several, each once, and one cookie at most")
        return names

    @field_validator("scopes", mode="before")
    @classmethod
    def _read_scopes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.strip() == "*":
            return None
        found: dict[str, Scope] = {}
        for item in value.strip().split("\n" if "\n" in value.strip() else ","):
            name, equals, description = (part.strip() for part in item.partition("="))
            if not name and not equals:
                continue
            if not is_scope(name):
                hint = "; to have commas in descriptions, put each scope on a line of its own"
                raise ValueError(
                    f"{name!r} is no scope; use a form like orders:read{hint if '=' in value else ''}"
                )
            if name in found:
                raise ValueError(f"{name} is there twice; leave one of them out")
            description = kept(description)
            if problem := fault(description):
                raise ValueError(f"the description of {name} {problem}")
            found[name] = Scope(name, description)
        if len(found) > _MAX_SCOPES:
            raise ValueError(f"there are {len(found)} scopes; use {_MAX_SCOPES} at most, or * for any")
        return tuple(found.values())

    @field_validator("anonymous_scopes", "default_allowed_scopes")
    @classmethod
    def _check_known(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        scopes = info.data.get("scopes")
        known = value if scopes is None else {*OWN_SCOPES, *(scope.name for scope in scopes)}
        if unknown := [scope for scope in value if scope not in known]:
            raise ValueError(f"{', '.join(unknown)} not in AUTHSVC_SCOPES; add it there, or leave it out")
        return tuple(sorted(set(value)))

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        networks = []
        for text in filter(None, (part.strip() for part in value.split(","))):
            try:
                networks.append(network(text))
            except ValueError as error:
                raise ValueError(
                    f"{error}; use networks like 10.1.0.0/16, fd00::/8 or 192.0.2.1, by commas"
                ) from None
        if any(found.prefixlen == 0 for found in networks):
            raise ValueError("all addresses would let anybody say where they are; name your proxies")
        return tuple(networks)

    @field_validator("caller_limit", "failure_limit", "stranger_limit", mode="before")
    @classmethod
    def _read_rate(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value == "0":
            return Rate(0, 0)
        match = _RATE.fullmatch(value)
        if match is None or float(match[1]) == 0 or int(match[2]) == 0:
            raise ValueError("use a number a second / at once, for instance 50/200; or 0 for no limit")
        return Rate(float(match[1]), int(match[2]))

    @field_validator("geoip_db", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(Path(path.strip()) for path in value.split(",") if path.strip())

    @field_validator("session_idle_timeout_max", "session_lifetime_max")
    @classmethod
    def _check_most(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        default = str(info.field_name).removesuffix("_max")
        if default in info.data and info.data[default] > value:
            raise ValueError(f"is less than the default, {PREFIX}{default.upper()}; raise it, or lower that")
        return value

    @field_validator("brand")
    @classmethod
    def _check_brand(cls, value: str) -> str:
        if re.fullmatch(r"[a-z][a-z0-9]{1,9}", value) is None:
            raise ValueError("use 2 to 10 characters of a-z 0-9, a letter first")
        return value

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                text = value.get_secret_value()
                hosts = urlsplit(text).netloc.rpartition("@")[2]
                # One host, several, or none, which the query names then.
                readable = all(_HOST.fullmatch(host) for host in hosts.split(","))
            except ValueError:
                readable = False
            if not (readable and text.startswith(("postgresql://", "postgres://"))):
                raise ValueError(
                    "use postgresql://user:password@host:port/database; "
                    "in user and password write / # ? @ : % as %2F %23 %3F %40 %3A %25"
                )
        return value


def check_transport(settings: Settings) -> None:
    """Raise ConfigError when what is set about the transport does not fit together, or is not safe."""
    problems = []
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "TLS_KEY" if settings.tls_key is None else "TLS_CERT"
        problems.append(f"{PREFIX}{missing}: a certificate and its key are set together, or neither")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        problems.append(
            f"{PREFIX}TLS_CLIENT_CA: clients show certificates over TLS only; "
            f"set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY"
        )
    if settings.callers is not None and settings.tls_client_ca is None:
        problems.append(
            f"{PREFIX}CALLERS: without {PREFIX}TLS_CLIENT_CA no caller shows a certificate; set it"
        )
    if not (settings.tls_cert or settings.insecure or settings.listen.is_loopback):
        problems.append(
            f"{PREFIX}LISTEN: key strings would travel in plain text beyond loopback, at {settings.listen}; "
            f"set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY, or listen at 127.0.0.1. Where something below us "
            f"encrypts, set {PREFIX}INSECURE=plaintext-beyond-loopback"
        )
    if settings.http_listen is not None and not (settings.insecure or settings.http_listen.is_loopback):
        problems.append(
            f"{PREFIX}HTTP_LISTEN: key strings would travel in plain text beyond loopback, at "
            f"{settings.http_listen}; listen at 127.0.0.1, beside the proxy. Where something below us "
            f"encrypts, set {PREFIX}INSECURE=plaintext-beyond-loopback"
        )
    if problems:
        raise ConfigError("\n".join(problems))


def load_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with those given in their place.

    Raises ConfigError that names each unknown or wrong setting; values are never
    shown, since some are secret.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    problems = [
        f"{name}: not a setting of authsvc; known are {', '.join(sorted(known))}"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems += [
            f"{PREFIX}{str(detail['loc'][0]).upper()}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors(include_input=False, include_url=False)
            # A default that depends on a wrong setting: nothing is wrong with this one.
            if detail["type"] != "default_factory_not_called"
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings
