"""The entrance of a worker, and the bounds of its gRPC port."""

from authsvc.app.connection_limits import connection_limits
from authsvc.app.defaults import anonymous_caller
from authsvc.app.drain import DrainPauses
from authsvc.app.parts import App
from authsvc.config.settings import Settings
from authsvc.entrance.authentication import Authentication
from authsvc.entrance.entrance import Entrance
from authsvc.entrance.gate import Gate
from authsvc.entrance.limits import Limits
from authsvc.entrance.strangers import Strangers
from authsvc.model.address import Proxies
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.balance import Balance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.connections import Connections
from authsvc.telemetry.access_log import AccessLog
from authsvc.telemetry.observer import Observer
from authsvc.verify.clock import Stopwatch

# Messages of one owner's calls that are on their way at a time.
_MAX_ARRIVING = 32


def entrance_of(
    app: App, settings: Settings, stopwatch: Stopwatch, proxies: Proxies, pauses: DrainPauses
) -> Entrance:
    """Return what every call passes, over gRPC and over HTTP."""
    limits = Limits(
        stopwatch,
        callers=settings.caller_limit,
        failures=settings.failure_limit,
        open_calls=settings.leak_report_limit,
        max_in_flight=settings.in_flight_limit,
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
        strangers=Strangers(settings.stranger_limit, stopwatch),
        probes=Strangers(settings.stranger_limit, stopwatch),
        note_refusal=app.refusals.note,
        metrics=app.metrics,
        observer=_observer(app, settings),
    )


def _observer(app: App, settings: Settings) -> Observer | None:
    """Return what observes calls; None where there is neither an access log nor a trace."""
    access_log = AccessLog(settings.access_log)
    if app.tracer is None and not access_log.is_on:
        return None
    return Observer(
        access_log, app.tracer, ratio=settings.verification_sampling, note_events=app.trace_parents.note
    )


def bounds_of(settings: Settings, stopwatch: Stopwatch, balance: Balance) -> Bounds:
    """Return what the gRPC port keeps for clients."""
    return Bounds(
        Arrivals(_MAX_ARRIVING, max(2 * _MAX_ARRIVING, settings.in_flight_limit // 4), stopwatch),
        Answers(stopwatch),
        Connections(connection_limits(settings).grpc, stopwatch),
        balance,
        stopwatch,
    )
