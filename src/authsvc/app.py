"""The composition root: builds the parts, runs them, drains them.

The only place that knows every part. What is built first is stopped last: the
server takes no more calls, last uses are written, the pool closes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import start_http_server

from authsvc.clock import Clock, system_clock
from authsvc.config import ConfigError, Settings
from authsvc.errors import Passing, Unavailable
from authsvc.keys import Keys
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.server import Server
from authsvc.store.migrate import MigrationError, pending
from authsvc.store.pool import Database
from authsvc.store.verification import VerificationStore
from authsvc.telemetry import Metrics
from authsvc.verify.hasher import Hasher
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Verifier

_log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The parts that run, for those who look at them from outside: the command line and the tests."""

    keys: Keys
    verifier: Verifier
    cache: PrefixCache
    hasher: Hasher
    usage: UsageLog
    database: Database
    metrics: Metrics
    port: int


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock = system_clock,
    tick: Callable[[], Awaitable[object]] | None = None,
) -> AsyncIterator[App]:
    """Run the service while the block runs; drain it at the end.

    `tick` is awaited between two writes of last uses. Raises ConfigError when the
    database cannot be served from.
    """
    if settings.database_url is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set it, or use `authsvc dev` for a database of its own")
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database.open(settings.database_url.get_secret_value(), size=settings.database_pool_size)
        )
        await _check_schema(database)
        store = VerificationStore(database)
        tag_key = await store.tag_key()
        mint = KeyMint(tag_key)
        cache = PrefixCache(settings.cache_capacity)
        hasher = Hasher(threads=settings.argon2_threads, queue_limit=settings.argon2_queue)
        stack.callback(hasher.close)
        usage = UsageLog(store)
        verifier = Verifier(
            mint=mint,
            cache=cache,
            hasher=hasher,
            store=store,
            usage=usage,
            clock=clock,
        )
        keys = Keys(
            database=database,
            verifier=verifier,
            hasher=hasher,
            mint=mint,
            page_tokens=PageTokens(tag_key),
            clock=clock,
            brand=settings.brand,
            scopes=settings.scopes,
        )
        _watch(metrics, verifier, cache, hasher, usage, database)
        if settings.metrics_listen:
            stack.callback(_serve_metrics(settings.metrics_listen, metrics))
        stack.push_async_callback(_write_last_uses, usage)
        await stack.enter_async_context(
            _in_background(usage.run(tick or partial(asyncio.sleep, settings.usage_interval)))
        )
        server = Server(KeyService(keys, verifier, clock), verifier, metrics)
        stack.push_async_callback(server.stop, settings.drain_grace)
        port = await server.start(settings.listen)
        if settings.listen.rpartition(":")[0] not in _LOOPBACK:
            _log.warning(
                "key strings travel in plain text at %s: keep it on a private network", settings.listen
            )
        yield App(
            keys=keys,
            verifier=verifier,
            cache=cache,
            hasher=hasher,
            usage=usage,
            database=database,
            metrics=metrics,
            port=port,
        )
        _log.info("draining: calls in flight get up to %g s", settings.drain_grace)


async def _check_schema(database: Database) -> None:
    try:
        missing = await pending(database)
    except Unavailable as error:
        raise ConfigError(
            f"AUTHSVC_DATABASE_URL: cannot use the database: {error.__cause__ or error}"
        ) from error
    except ValueError:
        # The driver's own words may hold a part of the password.
        raise ConfigError("AUTHSVC_DATABASE_URL: the driver cannot read it; check its options") from None
    except MigrationError as error:
        raise ConfigError(str(error)) from error
    if missing:
        raise ConfigError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")


def _watch(
    metrics: Metrics,
    verifier: Verifier,
    cache: PrefixCache,
    hasher: Hasher,
    usage: UsageLog,
    database: Database,
) -> None:
    metrics.watch_counter(
        "verdicts",
        "Credentials judged, callers' own included.",
        lambda: {code.value: count for code, count in verifier.counts.items()},
        label="code",
    )
    metrics.watch_gauge("cached_keys", "Keys in memory.", lambda: len(cache))
    metrics.watch_counter("cache_evictions", "Keys dropped from memory for others.", lambda: cache.evictions)
    metrics.watch_gauge("argon2_pending", "Secrets being proved or waiting.", lambda: hasher.pending)
    metrics.watch_counter("argon2_runs", "Secrets hashed or proved.", lambda: hasher.runs)
    metrics.watch_counter("uses_dropped", "Last uses not kept, for lack of room.", lambda: usage.dropped)
    metrics.watch_counter("database_checkouts", "Connections lent.", lambda: database.checkouts)


def _serve_metrics(listen: str, metrics: Metrics) -> Callable[[], None]:
    """Serve the metrics at host:port in a thread; return what ends it."""
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except OSError as error:
        raise ConfigError(f"AUTHSVC_METRICS_LISTEN: cannot listen at {listen}: {error.strerror}") from error

    _log.info("metrics at %s:%d", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


async def _write_last_uses(usage: UsageLog) -> None:
    try:
        await usage.flush()
    except Passing as error:
        _log.warning("the last uses of the last seconds are lost: %s", error.message)
    except Exception:  # noqa: BLE001 - the rest is to be drained all the same
        _log.exception("the last uses of the last seconds are lost")


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
