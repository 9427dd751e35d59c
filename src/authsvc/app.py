"""The composition root: builds the parts, runs them, drains them.

The only place that knows every part. What is built first is stopped last: the
server takes no more calls, last uses are written, the pool closes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from authsvc import device
from authsvc.audit import Audit
from authsvc.barrier import Barrier, certainly_over
from authsvc.callers import Callers, watched_callers
from authsvc.clock import Clock, DatabaseClock, Stopwatch, boottime
from authsvc.config import ConfigError, Settings, check_transport
from authsvc.errors import Passing, Unavailable
from authsvc.gateway import access, ext_authz
from authsvc.gateway.http_check import OWN_KEY, HttpCheck
from authsvc.gateway.http_server import Call, HttpServer
from authsvc.gateway.presented import Carriers
from authsvc.gateway.routes import SETTING as ROUTES
from authsvc.gateway.routes import Routes, parse
from authsvc.jobs.audit_months import AuditMonths
from authsvc.jobs.purge import Purge
from authsvc.jobs.reaper import Reaper
from authsvc.keys import Keys
from authsvc.location import LocationError, Locations
from authsvc.metrics_server import serve_metrics
from authsvc.model.address import Proxies
from authsvc.model.caller import ANONYMOUS, PLATFORM_OWNER, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.model.policy import OwnerPolicy
from authsvc.model.session import SessionBounds
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.policies import Policies
from authsvc.refusals import Refusals
from authsvc.replicas import Replicas
from authsvc.rpc.audit_service import AuditService
from authsvc.rpc.authentication import Authentication
from authsvc.rpc.endpoint import Entrance, Raw
from authsvc.rpc.gate import Gate
from authsvc.rpc.http_caller import HttpCaller
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.limits import Limits
from authsvc.rpc.policy_service import OwnerPolicyService
from authsvc.rpc.replica_service import ReplicaService
from authsvc.rpc.scope_service import ScopeService
from authsvc.rpc.server import Server
from authsvc.rpc.session_service import SessionService
from authsvc.rpc.tls import Tls
from authsvc.sessions import Sessions
from authsvc.store.activity import ActivityStore
from authsvc.store.feed import FeedConnection
from authsvc.store.feed import now as database_time
from authsvc.store.migrate import MigrationError, pending
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.store.tag_keys import accepted as accepted_tag_keys
from authsvc.store.verification import VerificationStore
from authsvc.tag_keys import TagKeys
from authsvc.telemetry import Metrics
from authsvc.verify.feed import Feed
from authsvc.verify.hasher import Hasher
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Verifier
from authsvc.watched import Watched

_log = logging.getLogger(__name__)

# Seconds between two looks for something to purge, and between two batches.
_PURGE_LOOK, _PURGE_PAUSE = 60.0, 0.1
_LOCATIONS_LOOK = 10.0
# Seconds between two writes of refused attempts, and between two looks at the months of the audit log.
_REFUSALS_WRITE, _MONTHS_LOOK = 60.0, 60.0
# And for a certificate that was rotated, or another list of callers.
_FILES_LOOK = 5.0
# An activity that is not kept may end a session early, so there is room for more than come in a whole lease.
_MOST_ACTIVITIES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The parts of a worker, for those who look at them from outside: the command line and the tests."""

    keys: Keys
    sessions: Sessions
    policies: Policies
    audit: Audit
    refusals: Refusals
    audit_months: AuditMonths
    catalogue: Catalogue
    locations: Locations
    verifier: Verifier
    cache: PrefixCache
    hasher: Hasher
    usage: UsageLog
    activity: UsageLog
    purge: Purge
    lease: Lease
    feed: Feed
    feed_connection: FeedConnection
    reaper: Reaper
    database: Database
    database_clock: DatabaseClock
    clock: Clock
    metrics: Metrics
    access: access.Access
    routes: Watched[Routes] | None
    tls: Tls | None = None
    certified: Watched[Callers] | None = None
    port: int = 0
    http_port: int = 0


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock | None = None,
    stopwatch: Stopwatch = boottime,
    tick: Callable[[], Awaitable[object]] | None = None,
    slot: int = 0,
    predecessors: Collection[UUID] = (),
    on_register: Callable[[UUID], object] = lambda _: None,
) -> AsyncIterator[App]:
    """Run a worker while the block runs; drain it at the end.

    `clock` stands in for the database's time, `stopwatch` for the machine's; `tick` is
    awaited between two writes of last uses. The worker is number `slot` of its
    supervisor, which is told each id that it registers under, and knows the
    `predecessors` to be dead. Raises ConfigError when the database cannot be served from.
    """
    tls, certified = transport(settings)
    async with (
        _composed(settings, clock, stopwatch, predecessors, on_register) as app,
        AsyncExitStack() as stack,
    ):
        app = replace(app, tls=tls, certified=certified)
        _watch(app)
        device.warm()  # No caller is to wait for it.
        if settings.metrics_listen:
            stack.callback(serve_metrics(settings.metrics_listen, slot, app.metrics.registry))
        stack.push_async_callback(_write_last_uses, app.usage)
        stack.push_async_callback(_write_last_uses, app.activity)
        stack.push_async_callback(_write_refusals, app.refusals)
        # When the server has stopped answering, and before the pool closes.
        stack.push_async_callback(app.feed.stop)
        try:
            await app.feed.start()
            heard = settings.feed == "poll" or await app.feed_connection.hears_from(app.database)
        except Passing as error:
            raise ConfigError(f"AUTHSVC_DATABASE_URL: cannot take part in the feed: {error}") from error
        if not heard:
            raise ConfigError(
                "AUTHSVC_DATABASE_URL: hints of changes (LISTEN, NOTIFY) do not arrive. If it leads to a "
                "pooler that lends connections for one transaction, or to a database without them, set "
                "AUTHSVC_FEED=poll"
            )
        for work in (
            app.feed.run(),
            app.usage.run(tick or partial(asyncio.sleep, settings.usage_interval)),
            app.activity.run(tick or partial(asyncio.sleep, settings.activity_interval)),
            app.reaper.run(partial(asyncio.sleep, settings.lease / 2)),
            app.purge.run(partial(asyncio.sleep, _PURGE_LOOK), partial(asyncio.sleep, _PURGE_PAUSE)),
            app.refusals.run(partial(asyncio.sleep, _REFUSALS_WRITE)),
            app.audit_months.run(partial(asyncio.sleep, _MONTHS_LOOK)),
            app.locations.run(partial(asyncio.sleep, _LOCATIONS_LOOK)),
        ):
            await stack.enter_async_context(_in_background(work))
        for files in (tls, certified, app.routes):
            if files is not None:
                looking = files.run(partial(asyncio.sleep, _FILES_LOOK))
                await stack.enter_async_context(_in_background(looking))
        limits = Limits(
            stopwatch,
            callers=settings.caller_limit,
            failures=settings.failure_limit,
            most_in_flight=settings.in_flight_limit,
        )
        anonymous = Caller(ANONYMOUS, PLATFORM_OWNER, settings.anonymous_scopes)
        entrance = Entrance(
            Gate(settings.in_flight_limit),
            Authentication(
                app.verifier,
                limits,
                proxies=Proxies(settings.trusted_proxies),
                certified=app.certified,
                anonymous=anonymous if settings.anonymous_scopes else None,
            ),
            limits,
            app.refusals,
            app.metrics,
        )
        server = Server(
            [
                KeyService(app.keys, app.verifier, app.clock),
                SessionService(app.sessions, app.verifier, app.locations, app.clock),
                OwnerPolicyService(app.policies),
                AuditService(app.audit),
                ReplicaService(Replicas(app.database)),
                ScopeService(app.catalogue),
            ],
            entrance,
            tls=app.tls,
            connection_age=settings.connection_age,
            longest=certainly_over(settings.lease),
            raw=[
                Raw(
                    ext_authz.SERVICE,
                    ext_authz.METHOD,
                    access.SCOPES,
                    ext_authz.ExtAuthz(app.access).check,
                )
            ],
        )
        app.metrics.watch_counter(
            "limited",
            "Calls refused because of a limit.",
            lambda: {**limits.refused, "in_flight": entrance.gate.refused},
            label="limit",
        )
        await stack.enter_async_context(_in_background(server.tell_health(app.lease)))
        stack.push_async_callback(server.stop, settings.drain_grace)
        port = await server.start(settings.listen)
        http_port = 0
        if settings.http_listen:
            http_port = await _serve_http(app, settings, entrance.authentication, stack)
        yield replace(app, port=port, http_port=http_port)
        _log.info("draining: calls in flight get up to %g s", settings.drain_grace)


async def _serve_http(
    app: App, settings: Settings, authentication: Authentication, stack: AsyncExitStack
) -> int:
    """Serve the check over HTTP until the stack ends, and return its port."""

    async def authenticate(call: Call) -> Caller:
        context: Any = HttpCaller(call.all(OWN_KEY), call.sender)
        return await authentication.caller(context)

    server = HttpServer(HttpCheck(app.access, authenticate, app.lease).answer)
    try:
        port = await server.start(settings.http_listen)
    except OSError as error:
        raise ConfigError(
            f"AUTHSVC_HTTP_LISTEN: cannot listen at {settings.http_listen}: {error.strerror or error}"
        ) from error
    stack.push_async_callback(server.stop, settings.drain_grace)
    return port


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[Keys]:
    """Yield the use cases of keys without serving, for what comes before the first worker."""
    # One connection for who mints the first key, and one that keeps others from doing so, too.
    size = max(2, settings.database_pool_size)
    async with _composed(settings.model_copy(update={"database_pool_size": size})) as app:
        asked = boottime()
        app.database_clock.set(await database_time(app.database), asked, boottime())
        yield app.keys


@asynccontextmanager
async def looking_after_tag_keys(settings: Settings) -> AsyncIterator[TagKeys]:
    """Yield the use cases of tag keys, as the role that owns the schema if there are two."""
    url = settings.migration_database_url or settings.database_url
    async with _database(settings.model_copy(update={"database_url": url})) as (database, _):
        yield TagKeys(database, Barrier(database))


@asynccontextmanager
async def _composed(
    settings: Settings,
    clock: Clock | None = None,
    stopwatch: Stopwatch = boottime,
    predecessors: Collection[UUID] = (),
    on_register: Callable[[UUID], object] = lambda _: None,
) -> AsyncIterator[App]:
    """Yield the parts, put together, before any of them runs."""
    locations = _locations(settings)
    routes = None if settings.routes is None else Watched({ROUTES: settings.routes}, parse)
    async with _database(settings) as (database, url):
        default_policy = _default_policy(settings)
        store = VerificationStore(database, default_policy)
        tag_keys = await accepted_tag_keys(database)
        mint = KeyMint(*tag_keys.secrets)
        page_tokens = PageTokens(*tag_keys.secrets)
        database_clock = DatabaseClock(stopwatch)
        clock = clock or database_clock
        cache = PrefixCache(settings.cache_capacity)
        lease = Lease(stopwatch)

        def use(tag_keys: AcceptedTagKeys) -> None:
            page_tokens.use(tag_keys)
            if mint.use(tag_keys):
                # What is in memory is not looked at for its tag.
                cache.clear()

        usage = UsageLog(store)
        activities = ActivityStore(database)
        activity = UsageLog(activities, limit=_MOST_ACTIVITIES)
        hasher = Hasher(threads=settings.argon2_threads, queue_limit=settings.argon2_queue)
        connection = FeedConnection(
            url, lease=settings.lease, listen=settings.feed == "listen", on_connect=database.refresh
        )
        feed = Feed(
            connection,
            cache=cache,
            lease=lease,
            clock=database_clock,
            seconds=settings.lease,
            poll_interval=settings.feed_poll_interval,
            stopwatch=stopwatch,
            predecessors=predecessors,
            on_register=on_register,
            on_tag_keys=use,
        )
        connection.on_hint(feed.hint)
        verifier = Verifier(
            mint=mint,
            cache=cache,
            hasher=hasher,
            store=store,
            usage=usage,
            activities=activities,
            activity=activity,
            lease=lease,
            feed=feed,
            clock=clock,
        )
        barrier = Barrier(database, hint=feed.hint, stopwatch=stopwatch)
        catalogue = Catalogue(settings.scopes or (), any_scope=settings.scopes is None)
        policy_store = PolicyStore(default_policy)
        keys = Keys(
            database=database,
            barrier=barrier,
            verifier=verifier,
            hasher=hasher,
            mint=mint,
            page_tokens=page_tokens,
            clock=clock,
            brand=settings.brand,
            catalogue=catalogue,
            policies=policy_store,
        )
        sessions = Sessions(
            database=database,
            barrier=barrier,
            mint=mint,
            page_tokens=page_tokens,
            clock=clock,
            brand=settings.brand,
            bounds=SessionBounds(
                settings.session_idle_timeout,
                settings.session_idle_timeout_max,
                settings.session_lifetime,
                settings.session_lifetime_max,
            ),
            catalogue=catalogue,
            policies=policy_store,
        )
        try:
            yield App(
                keys=keys,
                sessions=sessions,
                policies=Policies(
                    database=database,
                    barrier=barrier,
                    store=policy_store,
                    catalogue=catalogue,
                    clock=clock,
                ),
                audit=Audit(database=database, page_tokens=page_tokens),
                refusals=Refusals(database, clock),
                audit_months=AuditMonths(database, retention=settings.audit_retention, clock=clock),
                catalogue=catalogue,
                locations=locations,
                verifier=verifier,
                cache=cache,
                hasher=hasher,
                usage=usage,
                activity=activity,
                purge=Purge(database, retention=settings.session_retention, clock=clock),
                lease=lease,
                feed=feed,
                feed_connection=connection,
                reaper=Reaper(database, stopwatch=stopwatch),
                database=database,
                database_clock=database_clock,
                clock=clock,
                metrics=Metrics(),
                access=access.Access(
                    verifier,
                    Carriers(settings.gateway_credentials),
                    routes=None if routes is None else lambda: routes.value,
                    keep_credential=settings.gateway_keep_credential,
                ),
                routes=routes,
            )
        finally:
            hasher.close()
            locations.close()


def transport(settings: Settings) -> tuple[Tls | None, Watched[Callers] | None]:
    """Return what serves TLS, and whom certificates stand for.

    Raises ConfigError for files that cannot be used, and for plain text that nobody asked for.
    """
    check_transport(settings)
    tls = certified = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if settings.callers is not None:
        known = None if settings.scopes is None else [scope.name for scope in settings.scopes]
        certified = watched_callers(settings.callers, known)
    return tls, certified


def _locations(settings: Settings) -> Locations:
    try:
        return Locations(settings.geoip_db)
    except LocationError as error:
        raise ConfigError(f"AUTHSVC_GEOIP_DB: {error}") from error


def _default_policy(settings: Settings) -> OwnerPolicy:
    return OwnerPolicy(
        keys_enabled=settings.default_keys_enabled,
        max_active_keys=settings.default_max_active_keys,
        allowed_scopes=settings.default_allowed_scopes,
        max_key_lifetime=settings.default_max_key_lifetime,
        expiration_required=settings.default_expiration_required,
        contacts_required=settings.default_contacts_required,
        key_edits=settings.default_key_edits,
        key_managers=settings.default_key_managers,
    )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[tuple[Database, str]]:
    """Yield the database, reachable and with the schema of this version, and its URL."""
    if settings.database_url is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set it, or use `authsvc dev` for a database of its own")
    url, pooler = settings.database_url.get_secret_value(), settings.feed == "poll"
    async with Database.open(url, size=settings.database_pool_size, pooler=pooler) as database:
        await _check_schema(database)
        yield database, url


async def _check_schema(database: Database) -> None:
    try:
        missing = await pending(database)
    except Unavailable as error:
        cause = str(error if error.reason == "DATABASE_POOLED" else error.__cause__ or error)
        if "startup parameter" in cause:
            cause += (
                " (pgbouncer: set AUTHSVC_FEED=poll, or session mode and ignore_startup_parameters = jit)"
            )
        raise ConfigError(f"AUTHSVC_DATABASE_URL: cannot use the database: {cause}") from error
    except ValueError:
        # The driver's own words may hold a part of the password.
        raise ConfigError("AUTHSVC_DATABASE_URL: the driver cannot read it; check its options") from None
    except MigrationError as error:
        raise ConfigError(str(error)) from error
    if missing:
        raise ConfigError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")


def _watch(app: App) -> None:
    watch_counter, watch_gauge = app.metrics.watch_counter, app.metrics.watch_gauge
    watch_counter(
        "verdicts",
        "Credentials judged, callers' own included.",
        lambda: {code.value: count for code, count in app.verifier.counts.items()},
        label="code",
    )
    watch_counter(
        "gateway_answers",
        "Answers to proxies, by the reason of a refusal.",
        lambda: app.access.counts,
        label="reason",
    )
    watch_gauge("lease_seconds", "For how long this worker may answer from memory.", lambda: app.lease.left)
    watch_gauge("feed_seq", "Up to where this worker has applied the feed of changes.", lambda: app.feed.seq)
    watch_counter("registrations", "Times that it began anew.", lambda: app.feed.registrations)
    watch_gauge("cached_keys", "Keys in memory.", lambda: len(app.cache))
    watch_counter("cache_evictions", "Keys dropped from memory for others.", lambda: app.cache.evictions)
    watch_gauge("argon2_pending", "Secrets being proved or waiting.", lambda: app.hasher.pending)
    watch_counter("argon2_runs", "Secrets hashed or proved.", lambda: app.hasher.runs)
    watch_counter(
        "uses_dropped",
        "Last uses and activities not kept, for lack of room.",
        lambda: app.usage.dropped + app.activity.dropped,
    )
    watch_counter("sessions_purged", "Ended sessions that were deleted.", lambda: app.purge.deleted)
    watch_counter(
        "audit_refusals_dropped",
        "Refused attempts not kept in the audit log, for lack of room.",
        lambda: app.refusals.dropped,
    )
    watch_counter(
        "audit_events_dropped", "Audit events dropped after the retention.", lambda: app.audit_months.dropped
    )
    if app.tls is not None:
        watch_gauge("certificate_seconds", "For how long the certificate is valid.", app.tls.seconds_left)
    watch_gauge(
        "stale_files",
        "Files of ours that have changed and are broken, so that the ones before are used.",
        lambda: sum(files.is_stale for files in (app.tls, app.certified, app.routes) if files is not None),
    )
    watch_counter("database_checkouts", "Connections lent.", lambda: app.database.checkouts)


async def _write_last_uses(usage: UsageLog) -> None:
    try:
        await usage.flush()
    except Passing as error:
        _log.warning("the last uses of the last seconds are lost: %s", error.message)
    except Exception:  # noqa: BLE001 - the rest is to be drained all the same
        _log.exception("the last uses of the last seconds are lost")


async def _write_refusals(refusals: Refusals) -> None:
    try:
        await refusals.flush()
    except Passing as error:
        _log.warning("the refused attempts of the last minute are lost: %s", error.message)
    except Exception:  # noqa: BLE001 - the rest is to be drained all the same
        _log.exception("the refused attempts of the last minute are lost")


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
