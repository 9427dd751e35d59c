"""A worker: its parts run, it serves, and it drains.

What is built first is stopped last: the server takes no more calls, last uses are written, the pool closes.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from authsvc.app.background import Step, each, in_background, run_forever
from authsvc.app.database import Wait
from authsvc.app.drain import DRAIN_PAUSES, DrainPauses
from authsvc.app.entrance import bounds_of, entrance_of
from authsvc.app.flushes import flush_app_at_end
from authsvc.app.follower import Registration, follower_of, join
from authsvc.app.gauges import watch, watch_entrance, watch_replicas
from authsvc.app.http_check import serve_http_check
from authsvc.app.parts import App, composed
from authsvc.app.services import services_of
from authsvc.app.tracing import traced
from authsvc.app.transport import transport
from authsvc.app.web import WebPort
from authsvc.config.oidc import oidc_secrets
from authsvc.config.settings import ConfigError, Settings
from authsvc.entrance.entrance import Entrance
from authsvc.gateway import access, ext_authz
from authsvc.model.address import Proxies
from authsvc.net.private_listener import PrivateListener
from authsvc.net.worker_loads import WorkerLoads
from authsvc.revocation import client_report
from authsvc.revocation.local_channel import LocalChannel
from authsvc.revocation.remote_follower import RemoteFollower
from authsvc.rpc import server as grpcio
from authsvc.rpc.balance import Balance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.holder_service import HolderService
from authsvc.rpc.lane import server as lane
from authsvc.rpc.served import Served
from authsvc.rpc.service import Raw, Service
from authsvc.sessions import device
from authsvc.verify.clock import Clock, Stopwatch, boottime
from authsvc.verify.lease import certainly_over
from authsvc.web.rpcs import Rpcs

_log = logging.getLogger(__name__)

# Seconds between two looks for sessions to purge, and between two batches.
_PURGE_SECONDS, _PURGE_PAUSE_SECONDS = 60.0, 0.1
# Seconds between two looks for grace periods that end by themselves.
_GRACE_SECONDS = 10.0
# Seconds between two looks for a newer file of locations.
_LOCATIONS_SECONDS = 10.0
# Seconds before it is tried again to write which answers were sent.
_DELIVERIES_PAUSE_SECONDS = 1.0
# Seconds between two writes of refused attempts, and between two looks at the months of the audit log.
_REFUSALS_SECONDS, _REFUSED_ADDRESSES_SECONDS, _MONTHS_SECONDS = 60.0, 5.0, 60.0
# Seconds between two writes of what changes were confirmed by.
_CONFIRMATIONS_SECONDS = 5.0
# Seconds between two looks for units of rate limits that were not used.
_BUDGETS_SECONDS = 1.0
# Seconds between two looks at the registrations, at most, and between two deletions in the feed.
_MAX_REAPER_SECONDS, _TRIM_SECONDS = 5.0, 60.0
# How long a worker that starts waits for its lease, which the follower of the replica gives it.
_MAX_ATTACH_SECONDS = 30.0
# Seconds between two looks for a certificate that was rotated, or another list of callers.
_FILES_SECONDS = 5.0

# By the value of AUTHSVC_TRANSPORT.
_TRANSPORTS: "dict[str, type[lane.Server] | type[grpcio.Server]]" = {
    "lane": lane.Server,
    "grpcio": grpcio.Server,
}


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock | None = None,
    stopwatch: Stopwatch = boottime,
    tick: Step | None = None,
    slot: int = 0,
    registration: Registration | None = None,
    follower_listener: PrivateListener | None = None,
    loads: WorkerLoads | None = None,
    pauses: DrainPauses = DRAIN_PAUSES,
) -> AsyncIterator[App]:
    """Run a worker while the block runs; drain it at the end.

    `clock` stands in for the database's time, `stopwatch` for the machine's; `tick` is awaited between two
    writes of last uses. The worker is number `slot` of its supervisor, all of whose workers have its `loads`.
    With `follower_listener`, it attaches to the process that follows the feed; otherwise this one does, which
    registers as `registration` says. `pauses` are those of its stop. Raises ConfigError when the database
    cannot be served from, and OpenFilesError when the limit of open files is too low.
    """
    (tls, certified), registration = transport(settings), registration or Registration()
    note_lent, secrets = registration.lent.claim(slot, os.getpid()), oidc_secrets(settings)
    # All workers wait for the same, so one of them says for what.
    wait = Wait(settings.wait_for_database, logging.DEBUG if slot else logging.INFO)
    async with (
        traced(settings, f"worker {slot}") as tracer,
        composed(settings, clock, stopwatch, tls, certified, wait, note_lent, tracer) as app,
        AsyncExitStack() as stack,
    ):
        watch(app)
        if not slot:
            watch_replicas(app)
        device.warm()  # No caller is to wait for it.
        flush_app_at_end(app, stack)
        app = replace(app, oidc_secrets=secrets)
        app = await _join(app, settings, registration, follower_listener, stopwatch, stack)
        await app.foreign.warm()
        await _work(app, settings, tick, slot, stack)
        proxies = Proxies(settings.trusted_proxies)
        entrance = entrance_of(app, settings, stopwatch, proxies, pauses)
        bounds = bounds_of(settings, stopwatch, Balance(loads, slot, time.monotonic))
        services = services_of(app)
        web = None
        if settings.web_listen is not None:
            web = WebPort(app, settings, settings.web_listen, Rpcs(services, entrance, bounds), pauses)
            stack.push_async_callback(web.stopped)
        port = await _serve(app, settings, services, entrance, bounds, proxies, pauses, stack)
        http_port = web_port = 0
        if settings.http_listen is not None:
            http_port = await serve_http_check(
                app, settings, settings.http_listen, entrance, proxies, pauses, stack
            )
        if web is not None:
            web_port = await web.start()
            stack.callback(web.stop)
        yield replace(app, port=port, http_port=http_port, web_port=web_port)
        app.readiness.end()
        _log.info("draining: calls in flight get up to %g s", settings.drain_grace.total_seconds())


async def _join(
    app: App,
    settings: Settings,
    registration: Registration,
    follower_listener: PrivateListener | None,
    stopwatch: Stopwatch,
    stack: AsyncExitStack,
) -> App:
    """Take the lease, and keep it until the stack ends. Raises ConfigError when that is not possible.

    It ends when the server and clients that hold credentials have stopped answering, and before the pool
    closes.
    """
    if follower_listener is not None:
        await stack.enter_async_context(in_background(RemoteFollower(app.holder, follower_listener).run()))
        stack.push_async_callback(app.holder.clients.over)
        await _leased(app)
        return app
    follower, connection = follower_of(settings, app.url, registration, stopwatch)
    LocalChannel(app.holder, follower.holders)
    app.holder.on_hint(follower.hint)
    stack.push_async_callback(follower.stop)
    await join(follower, connection, app.database, settings)
    await stack.enter_async_context(in_background(follower.run()))
    stack.push_async_callback(app.holder.clients.over)
    return replace(app, own_follower=follower)


async def _leased(app: App) -> None:
    try:
        async with asyncio.timeout(_MAX_ATTACH_SECONDS):
            await app.lease.taken()
    except TimeoutError as error:
        raise ConfigError(
            f"this worker got no lease within {_MAX_ATTACH_SECONDS:g} s, because the database is out of reach"
        ) from error


def _reaping(app: App, settings: Settings) -> Sequence[Coroutine[Any, Any, None]]:
    """Return what one worker of a replica is enough for."""
    look = each(min(settings.lease.total_seconds() / 5, _MAX_REAPER_SECONDS))
    return (
        run_forever(app.reaper.look, look, "looking for dead replicas"),
        run_forever(app.reaper.trim, each(_TRIM_SECONDS), "deleting old entries of the feed"),
    )


async def _work(app: App, settings: Settings, tick: Step | None, slot: int, stack: AsyncExitStack) -> None:
    """Do what runs beside requests, until the stack ends."""
    usage_tick = tick or each(settings.usage_interval.total_seconds())
    activity_tick = tick or each(settings.activity_interval.total_seconds())
    deliveries = app.keys.deliveries
    for work in (
        app.loop_lag.run(),
        run_forever(app.usage.flush, usage_tick, "writing uses of keys", level=logging.WARNING),
        run_forever(app.activity.flush, activity_tick, "writing last activities", level=logging.WARNING),
        *(() if slot else _reaping(app, settings)),
        run_forever(partial(app.purge.work, each(_PURGE_PAUSE_SECONDS)), each(_PURGE_SECONDS), "purging"),
        run_forever(
            partial(app.grace_ends.work, each(_PURGE_PAUSE_SECONDS)),
            each(_GRACE_SECONDS),
            "ending grace periods",
        ),
        run_forever(app.budgets.give_back, each(_BUDGETS_SECONDS), "giving back units of rate limits"),
        run_forever(app.credit_accounts.give_back, each(_BUDGETS_SECONDS), "giving back credits"),
        run_forever(app.refusals.flush, each(_REFUSALS_SECONDS), "writing refused attempts"),
        run_forever(
            app.refused_addresses.flush, each(_REFUSED_ADDRESSES_SECONDS), "writing refusals by address"
        ),
        run_forever(
            app.confirmations.flush, each(_CONFIRMATIONS_SECONDS), "writing confirmations of changes"
        ),
        run_forever(app.client_report.write, each(client_report.SECONDS), "reporting clients"),
        run_forever(app.audit_months.step, each(_MONTHS_SECONDS), "maintaining the audit log"),
        run_forever(
            deliveries.flush,
            partial(deliveries.due, each(_DELIVERIES_PAUSE_SECONDS)),
            "writing the delivery status of new keys",
        ),
        run_forever(app.locations.look, each(_LOCATIONS_SECONDS), "looking for newer locations"),
        *(
            ()
            if app.tracer is None
            else (run_forever(app.trace_parents.flush, app.trace_parents.due, "writing traces of events"),)
        ),
        *(
            run_forever(files.look, each(_FILES_SECONDS), "looking for changed files")
            for files in app.reloaded_files
        ),
    ):
        await stack.enter_async_context(in_background(work))


async def _serve(
    app: App,
    settings: Settings,
    services: Sequence[Service],
    entrance: Entrance,
    bounds: Bounds,
    proxies: Proxies,
    pauses: DrainPauses,
    stack: AsyncExitStack,
) -> int:
    """Serve gRPC until the stack ends, and return its port. Raises AddressInUseError."""
    check = ext_authz.ExtAuthz(app.access, proxies)
    served = Served(
        services,
        entrance,
        bounds,
        holders=HolderService(app.holder.clients, app.verifier),
        raw=[
            Raw(
                ext_authz.SERVICE,
                ext_authz.METHOD,
                access.SCOPES,
                check.check,
                check.recall,
                ext_authz.verdict_of,
            )
        ],
        reflects=settings.reflection,
    )
    server = _TRANSPORTS[settings.transport](
        served,
        tls=app.tls,
        connection_age=settings.connection_age.total_seconds(),
        longest=certainly_over(settings.lease.total_seconds()),
        answered=pauses.answered,
    )
    watch_entrance(app.metrics, served)
    await stack.enter_async_context(in_background(served.health.follow(app.lease)))
    await stack.enter_async_context(in_background(served.health.follow_stop(app.readiness)))
    stack.push_async_callback(server.stop, settings.drain_grace.total_seconds())
    stack.push_async_callback(app.holder.clients.stop)
    port = await server.start(settings.listen)
    watching = run_forever(server.watch.look, server.watch.due, "watching connections")
    await stack.enter_async_context(in_background(watching))
    return port
