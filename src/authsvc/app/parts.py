"""The parts of a worker, put together, before any of them runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

from authsvc.app.database import AT_ONCE, Wait, served_database
from authsvc.app.defaults import anonymous_caller, default_policy_of
from authsvc.app.loop_lag import LoopLag
from authsvc.app.use_cases import UseCases, grace_margin, use_cases_of
from authsvc.app.verification import Verification, verification_of
from authsvc.audit.confirmations import Confirmations
from authsvc.audit.months import AuditMonths
from authsvc.audit.refusals import Refusals
from authsvc.config.oidc import OidcSecrets
from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.config.settings import Settings
from authsvc.entrance.callers import Callers
from authsvc.entrance.readiness import Readiness
from authsvc.gateway.access import Access
from authsvc.gateway.presented import CredentialSources
from authsvc.gateway.routes import Routes, reloaded_routes
from authsvc.keys.grace_ends import GraceEnds
from authsvc.model.catalogue import Catalogue
from authsvc.notifications.trace_parents import TraceParents
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.revocation.client_report import ClientReport
from authsvc.revocation.follower import Follower
from authsvc.revocation.reaper import Reaper
from authsvc.rpc.tls import Tls
from authsvc.sessions.locations import Locations
from authsvc.sessions.purge import Purge
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.store.tag_keys import accepted as accepted_tag_keys
from authsvc.telemetry import Metrics
from authsvc.telemetry.spans import Tracer
from authsvc.verify.clock import Clock, Stopwatch, boottime
from authsvc.verify.verifier import Verifier
from authsvc.web.scanning_keys import FileKeys, RemoteKeys, keys_of


@dataclass(frozen=True, kw_only=True)
class App(Verification, UseCases):
    """The parts of a worker, for those who look at them from outside: the command line and the tests."""

    refusals: Refusals
    confirmations: Confirmations
    client_report: ClientReport
    audit_months: AuditMonths
    purge: Purge
    grace_ends: GraceEnds
    reaper: Reaper
    loop_lag: LoopLag = field(default_factory=LoopLag)
    catalogue: Catalogue
    locations: Locations
    database: Database
    metrics: Metrics
    # What makes spans; None if nothing is traced.
    tracer: Tracer | None
    trace_parents: TraceParents
    readiness: Readiness
    access: Access
    routes: ReloadedFiles[Routes] | None
    tls: Tls | None
    certified: ReloadedFiles[Callers] | None
    scanning_keys: FileKeys | RemoteKeys | None
    # The URL of the database, for the connection that the feed is followed on.
    url: str
    # Only in a worker that is alone; otherwise the workers of a replica have one in a process of its own.
    own_follower: Follower | None = None
    # Only in a worker, for the console.
    oidc_secrets: ReloadedFiles[OidcSecrets] | None = None
    port: int = 0
    http_port: int = 0
    web_port: int = 0

    @property
    def follower(self) -> Follower:
        """The follower in this process. Raises LookupError when it is in another one."""
        if self.own_follower is None:
            raise LookupError("the follower of this worker is in another process")
        return self.own_follower

    @property
    def reloaded_files(self) -> list[Tls | ReloadedFiles[Any]]:
        """The files that are reloaded when they change."""
        scanning = self.scanning_keys.file if isinstance(self.scanning_keys, FileKeys) else None
        files = (self.tls, self.certified, self.routes, self.oidc_secrets, scanning, self.token_keys)
        return [each for each in files if each is not None]


@asynccontextmanager
async def composed(
    settings: Settings,
    clock: Clock | None = None,
    stopwatch: Stopwatch = boottime,
    tls: Tls | None = None,
    certified: ReloadedFiles[Callers] | None = None,
    wait: Wait = AT_ONCE,
    note_lent: Callable[[float], object] = lambda _: None,
    tracer: Tracer | None = None,
) -> AsyncIterator[App]:
    """Yield the parts, put together, before any of them runs. Raises ConfigError.

    `note_lent` and `tracer` are those of `verification_of`.
    """
    locations, catalogue = Locations(settings.geoip_db), _catalogue(settings)
    routes = None if settings.routes is None else reloaded_routes(settings.routes, catalogue)
    scanning_keys = keys_of(settings.secret_scanning_keys, AddressRules(settings.webhook_networks))
    async with served_database(settings, wait) as (database, url):
        default_policy = default_policy_of(settings)
        policies = PolicyStore(default_policy)
        verification = verification_of(
            settings,
            database,
            default_policy,
            await accepted_tag_keys(database),
            clock=clock,
            stopwatch=stopwatch,
            note_lent=note_lent,
            tracer=tracer,
        )
        clock, anonymous = verification.clock, anonymous_caller(settings)
        authority = Authority(database, policies, clock, certified=certified, anonymous=anonymous)
        confirmations = Confirmations(database, clock)
        barrier = _barrier(database, authority, verification, confirmations, stopwatch)
        use_cases = use_cases_of(settings, database, policies, catalogue, verification, authority, barrier)
        try:
            yield App(
                **vars(verification),
                **vars(use_cases),
                refusals=Refusals(database, clock),
                confirmations=confirmations,
                client_report=ClientReport(database, verification.holder.clients, stopwatch=stopwatch),
                **_regular(settings, database, clock, stopwatch),
                grace_ends=GraceEnds(database, barrier, clock, margin=grace_margin(settings)),
                catalogue=catalogue,
                locations=locations,
                database=database,
                metrics=Metrics(),
                tracer=tracer,
                readiness=Readiness(verification.lease),
                access=_access(settings, verification.verifier, routes),
                routes=routes,
                tls=tls,
                certified=certified,
                scanning_keys=scanning_keys,
                url=url,
            )
        finally:
            verification.hasher.close()
            locations.close()


def _catalogue(settings: Settings) -> Catalogue:
    return Catalogue(settings.scopes or (), any_scope=settings.scopes is None)


def _barrier(
    database: Database,
    authority: Authority,
    verification: Verification,
    confirmations: Confirmations,
    stopwatch: Stopwatch,
) -> Barrier:
    return Barrier(
        database,
        authority,
        hint=verification.holder.hint,
        note_confirmed=confirmations.note,
        stopwatch=stopwatch,
    )


class _Regular(TypedDict):
    audit_months: AuditMonths
    purge: Purge
    reaper: Reaper
    trace_parents: TraceParents


def _regular(settings: Settings, database: Database, clock: Clock, stopwatch: Stopwatch) -> _Regular:
    """Return what is run now and then."""
    return {
        "audit_months": AuditMonths(database, retention=settings.audit_retention, clock=clock),
        "purge": Purge(
            database,
            retention=settings.session_retention,
            usage_retention=settings.usage_retention,
            clock=clock,
        ),
        "reaper": Reaper(database, stopwatch=stopwatch),
        "trace_parents": TraceParents(database),
    }


def _access(settings: Settings, verifier: Verifier, routes: ReloadedFiles[Routes] | None) -> Access:
    return Access(
        verifier,
        CredentialSources(settings.gateway_credentials),
        routes=None if routes is None else lambda: routes.value,
        keep_credential=settings.gateway_keep_credential,
    )
