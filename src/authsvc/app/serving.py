"""A worker: its parts run, it serves, and it drains.

What is built first is stopped last: the server takes no more calls, last uses are written, the
pool closes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from authsvc import device
from authsvc.app.drain import DRAIN_PAUSES, DrainPauses
from authsvc.app.gauges import watch
from authsvc.app.parts import App, anonymous_caller, composed
from authsvc.barrier import certainly_over
from authsvc.callers import Callers, watched_callers
from authsvc.clock import Clock, Stopwatch, boottime
from authsvc.config import ConfigError, Settings, check_transport
from authsvc.descriptors import connections, in_use
from authsvc.errors import Passing
from authsvc.gateway import access, ext_authz
from authsvc.gateway.http_check import OWN_KEY, HttpCheck
from authsvc.http_server import Call, HttpServer
from authsvc.metrics_server import serve_metrics
from authsvc.model.address import Proxies
from authsvc.model.caller import Caller
from authsvc.replicas import Replicas
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.audit_service import AuditService
from authsvc.rpc.authentication import Authentication
from authsvc.rpc.connections import Connections
from authsvc.rpc.endpoint import Raw
from authsvc.rpc.entrance import Entrance
from authsvc.rpc.gate import Gate
from authsvc.rpc.http_caller import HttpCaller
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.limits import Limits
from authsvc.rpc.policy_service import OwnerPolicyService
from authsvc.rpc.replica_service import ReplicaService
from authsvc.rpc.scope_service import ScopeService
from authsvc.rpc.server import Server
from authsvc.rpc.session_service import SessionService
from authsvc.rpc.strangers import Strangers
from authsvc.rpc.tls import Tls
from authsvc.telemetry import Metrics
from authsvc.watched import Watched

_log = logging.getLogger(__name__)

# Seconds between two looks for something to purge, and between two batches.
_PURGE_LOOK, _PURGE_PAUSE = 60.0, 0.1
_LOCATIONS_LOOK = 10.0
# Before it is tried again to write which answers were sent.
_DELIVERIES_PAUSE = 1.0
# Seconds between two writes of refused attempts, and between two looks at the months of the audit log.
_REFUSALS_WRITE, _MONTHS_LOOK = 60.0, 60.0
# And for a certificate that was rotated, or another list of callers.
_FILES_LOOK = 5.0
# Messages of one owner's calls that are on their way at a time.
_MOST_ARRIVING = 32


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
    pauses: DrainPauses = DRAIN_PAUSES,
) -> AsyncIterator[App]:
    """Run a worker while the block runs; drain it at the end.

    `clock` stands in for the database's time, `stopwatch` for the machine's; `tick` is
    awaited between two writes of last uses. The worker is number `slot` of its
    supervisor, which is told each id that it registers under, and knows the
    `predecessors` to be dead. `pauses` are those of its stop. Raises ConfigError when the
    database cannot be served from.
    """
    tls, certified = transport(settings)
    async with (
        composed(settings, clock, stopwatch, predecessors, on_register, certified) as app,
        AsyncExitStack() as stack,
    ):
        app = replace(app, tls=tls)
        watch(app)
        device.warm()  # No caller is to wait for it.
        if settings.metrics_listen:
            stack.callback(serve_metrics(settings.metrics_listen, slot, app.metrics.registry))
        for flush, what in (
            (app.usage.flush, "last uses of the last seconds"),
            (app.activity.flush, "activities of the last seconds"),
            (app.refusals.flush, "refused attempts of the last minute"),
            (app.keys.deliveries.flush, "notes of which answers were sent"),
        ):
            stack.push_async_callback(_write, flush, what)
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
            app.keys.deliveries.run(partial(asyncio.sleep, _DELIVERIES_PAUSE)),
            app.locations.run(partial(asyncio.sleep, _LOCATIONS_LOOK)),
        ):
            await stack.enter_async_context(_in_background(work))
        for files in (tls, certified, app.routes):
            if files is not None:
                looking = files.run(partial(asyncio.sleep, _FILES_LOOK))
                await stack.enter_async_context(_in_background(looking))
        proxies = Proxies(settings.trusted_proxies)
        entrance = _entrance(app, settings, stopwatch, proxies, pauses)
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
                    ext_authz.ExtAuthz(app.access, proxies).check,
                )
            ],
            reflects=settings.reflection,
            stopwatch=stopwatch,
            answered=pauses.answered,
        )
        _watch_entrance(app.metrics, entrance, server)
        await stack.enter_async_context(_in_background(server.tell_health(app.lease)))
        stack.push_async_callback(server.stop, settings.drain_grace)
        port = await server.start(settings.listen)
        await stack.enter_async_context(_in_background(server.watch()))
        http_port = 0
        if settings.http_listen:
            http_port = await _serve_http(app, settings, entrance.authentication, proxies, pauses, stack)
        yield replace(app, port=port, http_port=http_port)
        _log.info("draining: calls in flight get up to %g s", settings.drain_grace)


def _entrance(
    app: App, settings: Settings, stopwatch: Stopwatch, proxies: Proxies, pauses: DrainPauses
) -> Entrance:
    """Return what every RPC passes."""
    limits = Limits(
        stopwatch,
        callers=settings.caller_limit,
        failures=settings.failure_limit,
        most_in_flight=settings.in_flight_limit,
    )
    return Entrance(
        Gate(settings.in_flight_limit, quiet=pauses.quiet),
        Authentication(
            app.verifier,
            limits,
            proxies=proxies,
            certified=app.certified,
            anonymous=anonymous_caller(settings),
        ),
        limits,
        app.refusals,
        app.metrics,
        Strangers(settings.stranger_limit, stopwatch),
        Arrivals(_MOST_ARRIVING, max(2 * _MOST_ARRIVING, settings.in_flight_limit // 4), stopwatch),
        Answers(stopwatch),
        Connections(connections(settings.connection_limit, settings.database_pool_size), stopwatch),
        stopwatch,
    )


def _watch_entrance(metrics: Metrics, entrance: Entrance, server: Server) -> None:
    metrics.watch_counter(
        "limited",
        "Calls refused because of a limit, or answered later.",
        lambda: {
            **entrance.limits.refused,
            "in_flight": entrance.gate.refused,
            "unread": entrance.answers.refused,
            **server.refused,
            "stranger": entrance.strangers.delayed,
        },
        label="limit",
    )
    metrics.watch_counter(
        "connections_closed",
        "Connections of clients that were closed, by the reason.",
        lambda: entrance.connections.closed,
        label="reason",
    )
    metrics.watch_gauge(
        "connection_limit",
        "Connections of clients that this worker takes.",
        lambda: entrance.connections.most,
    )
    metrics.watch_gauge("open_files", "Files and connections that this worker has open.", in_use)
    metrics.watch_gauge(
        "unsent_bytes", "Bytes of answers that clients have not taken.", lambda: entrance.answers.unsent
    )


async def _serve_http(
    app: App,
    settings: Settings,
    authentication: Authentication,
    proxies: Proxies,
    pauses: DrainPauses,
    stack: AsyncExitStack,
) -> int:
    """Serve the check over HTTP until the stack ends, and return its port."""

    async def authenticate(call: Call) -> Caller:
        return await authentication.caller(HttpCaller(call.all(OWN_KEY), call.sender))

    server = HttpServer(HttpCheck(app.access, authenticate, app.lease, proxies).answer, linger=pauses.linger)
    try:
        port = await server.start(settings.http_listen)
    except OSError as error:
        raise ConfigError(
            f"AUTHSVC_HTTP_LISTEN: cannot listen at {settings.http_listen}: {error.strerror or error}"
        ) from error
    stack.push_async_callback(server.stop, settings.drain_grace)
    return port


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


async def _write(flush: Callable[[], Awaitable[None]], what: str) -> None:
    """Write what was to be written behind, at the end."""
    try:
        await flush()
    except Passing as error:
        _log.warning("the %s are lost: %s", what, error.message)
    except Exception:  # noqa: BLE001 - the rest is to be drained all the same
        _log.exception("the %s are lost", what)


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
