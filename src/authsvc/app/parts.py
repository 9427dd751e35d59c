"""The parts of a worker, put together, before any of them runs."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from authsvc.app.database import served_database
from authsvc.audit.events import Audit
from authsvc.audit.months import AuditMonths
from authsvc.audit.refusals import Refusals
from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.config.settings import Settings
from authsvc.entrance.callers import Callers
from authsvc.gateway import access
from authsvc.gateway.presented import CredentialSources
from authsvc.gateway.routes import Routes, reloaded_routes
from authsvc.keys import Keys
from authsvc.keys.policies import Policies
from authsvc.model.caller import ANONYMOUS, PLATFORM_OWNER, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.model.policy import OwnerPolicy
from authsvc.model.session import SessionBounds
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.revocation.follower import Follower
from authsvc.revocation.reaper import Reaper
from authsvc.rpc.tls import Tls
from authsvc.sessions import Sessions
from authsvc.sessions.locations import Locations
from authsvc.sessions.purge import Purge
from authsvc.store.activity import ActivityStore
from authsvc.store.feed import FeedConnection
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.store.tag_keys import accepted as accepted_tag_keys
from authsvc.store.verification import MAX_WANTED, VerificationStore
from authsvc.telemetry import Metrics
from authsvc.verify.clock import Clock, DatabaseClock, Stopwatch, boottime
from authsvc.verify.hasher import Hasher
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Verifier

# An activity that is not kept may end a session early, so there is room for more than come in a whole lease.
_MAX_ACTIVITIES = 1_000_000


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
    follower: Follower
    feed_connection: FeedConnection
    reaper: Reaper
    database: Database
    database_clock: DatabaseClock
    clock: Clock
    metrics: Metrics
    access: access.Access
    routes: ReloadedFiles[Routes] | None
    tls: Tls | None = None
    certified: ReloadedFiles[Callers] | None = None
    port: int = 0
    http_port: int = 0


@asynccontextmanager
async def composed(
    settings: Settings,
    clock: Clock | None = None,
    stopwatch: Stopwatch = boottime,
    predecessors: Collection[UUID] = (),
    on_register: Callable[[UUID], object] = lambda _: None,
    certified: ReloadedFiles[Callers] | None = None,
) -> AsyncIterator[App]:
    """Yield the parts, put together, before any of them runs."""
    locations = Locations(settings.geoip_db)
    catalogue = Catalogue(settings.scopes or (), any_scope=settings.scopes is None)
    routes = None if settings.routes is None else reloaded_routes(settings.routes, catalogue)
    async with served_database(settings) as (database, url):
        default_policy = default_policy_of(settings)
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
        # A device is shown as it was seen last, also when somebody else asks about its session since.
        activity = UsageLog(activities, limit=_MAX_ACTIVITIES, fills_in=True)
        hasher = Hasher(threads=settings.argon2_threads, queue_limit=settings.argon2_queue)
        connection = FeedConnection(
            url,
            lease=settings.lease.total_seconds(),
            listen=settings.feed == "listen",
            on_connect=database.refresh,
        )
        follower = Follower(
            connection,
            cache=cache,
            lease=lease,
            clock=database_clock,
            seconds=settings.lease.total_seconds(),
            poll_interval=settings.feed_poll_interval.total_seconds(),
            stopwatch=stopwatch,
            predecessors=predecessors,
            on_register=on_register,
            on_tag_keys=use,
        )
        connection.on_hint(follower.hint)
        verifier = Verifier(
            mint=mint,
            cache=cache,
            hasher=hasher,
            store=store,
            usage=usage,
            activities=activities,
            activity=activity,
            lease=lease,
            feed=follower,
            clock=clock,
            max_fills_of_one=max(1, min(settings.argon2_queue, MAX_WANTED) // 2),
        )
        policy_store = PolicyStore(default_policy)
        authority = Authority(
            database, policy_store, clock, certified=certified, anonymous=anonymous_caller(settings)
        )
        barrier = Barrier(database, authority, hint=follower.hint, stopwatch=stopwatch)
        keys = Keys(
            database=database,
            authority=authority,
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
            authority=authority,
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
                follower=follower,
                feed_connection=connection,
                reaper=Reaper(database, stopwatch=stopwatch),
                database=database,
                database_clock=database_clock,
                clock=clock,
                metrics=Metrics(),
                access=access.Access(
                    verifier,
                    CredentialSources(settings.gateway_credentials),
                    routes=None if routes is None else lambda: routes.value,
                    keep_credential=settings.gateway_keep_credential,
                ),
                routes=routes,
                certified=certified,
            )
        finally:
            hasher.close()
            locations.close()


def anonymous_caller(settings: Settings) -> Caller | None:
    """Return who calls without any credential; None where the operator lets nobody."""
    if not settings.anonymous_scopes:
        return None
    return Caller(ANONYMOUS, PLATFORM_OWNER, settings.anonymous_scopes)


def default_policy_of(settings: Settings) -> OwnerPolicy:
    """Return the policy of owners who have none of their own."""
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
