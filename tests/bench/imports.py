"""Imports: how long a hundred thousand take, and what they cost each worker and each verification."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from statistics import median

from authsvc.keys.importing import MAX_KEYS, Candidate
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AuthsvcError
from authsvc.model.foreign_secret import ForeignSecret
from authsvc.model.new_key import NewKey
from authsvc.verify.foreign_strings import ForeignStrings
from authsvc.verify.look_up_filter import LookUpFilter
from authsvc.verify.question import Question
from tests.bench.bench import Bench, say
from tests.bench.rounds import ratio
from tests.bench.table import AtLeast, AtMost, Row

_PART = "imports"
_OWNER = "imports"
_QUESTION = Question(CredentialKind.KEY, BOOTSTRAP)
_ROUNDS = 9
_TIMES = 2_000


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about imported keys."""
    count = 10_000 if bench.quick else 100_000
    app = bench.app
    await app.foreign.read()
    _, minted = await app.keys.create(BOOTSTRAP, NewKey(owner_id=_OWNER, display_name="minted"))
    assert (await app.verifier.verify(_QUESTION, minted.text)).credential is not None
    made_up = [secrets.token_urlsafe(32) for _ in range(_TIMES)]

    def own() -> None:
        for _ in range(_TIMES):
            app.verifier.recall(_QUESTION, minted.text)

    def unknown() -> None:
        for text in made_up:
            app.verifier.recall(_QUESTION, text)

    unknown_before = _seconds(unknown)
    say(f"imports: {count} keys by {count // MAX_KEYS} calls")
    texts = [secrets.token_urlsafe(32) for _ in range(count)]
    began = time.perf_counter()
    for start in range(0, count, MAX_KEYS):
        results = await app.keys.import_keys(
            BOOTSTRAP, _OWNER, [_candidate(text) for text in texts[start : start + MAX_KEYS]]
        )
        assert not any(isinstance(each, AuthsvcError) for each in results)
    importing = time.perf_counter() - began
    with_imports, foreign = app.verifier, app.verifier._foreign
    own_after, own_before = [], []
    for _ in range(_ROUNDS):  # in turns
        own_after.append(_seconds(own))
        with_imports._foreign = None
        own_before.append(_seconds(own))
        with_imports._foreign = foreign
    unknown_after = _seconds(unknown)
    checkouts = app.database.checkouts
    for text in made_up:
        assert (await app.verifier.verify(_QUESTION, text)).credential is None
    asked = app.database.checkouts - checkouts
    cold = await _cold(bench, texts[: min(count, 5_000)])
    again = ForeignStrings(app.cache, app.foreign._store, app.foreign._feed)
    began = time.perf_counter()
    await again.read()
    reading = time.perf_counter() - began
    size, million = app.foreign._filter.size, _million()
    return [
        Row(_PART, "keys imported", f"{count / importing:,.0f}/s", f"{importing:,.1f} s", count / importing),
        Row(_PART, "a worker that starts reads them", f"{reading:.2f} s", f"{count} keys", reading),
        Row(
            _PART,
            "memory of the filter, bytes a key",
            f"{size / 1024:,.0f} KiB",
            f"{count} keys",
            size / count,
            AtMost(24),
        ),
        Row(
            _PART,
            "the same for a million",
            f"{million / 1024:,.0f} KiB",
            "1,000,000 keys",
            million / 1_000_000,
            AtMost(24),
        ),
        Row(
            _PART,
            "a key of our own from memory, with imports against without",
            _each(median(own_after)),
            _each(median(own_before)),
            ratio(own_before, own_after),
            AtLeast(0.98),
        ),
        Row(
            _PART,
            "a made-up string, with imports against without",
            _each(unknown_after),
            _each(unknown_before),
            unknown_before / unknown_after,
        ),
        Row(
            _PART,
            "made-up strings that reach the database",
            f"{asked}",
            f"{len(made_up)}",
            asked / len(made_up),
            AtMost(0.001),
        ),
        Row(_PART, "an imported key by its digest, not in memory", f"{cold:,.0f}/s", "64 at once", cold),
    ]


def _each(seconds: float) -> str:
    return f"{seconds / _TIMES * 1e6:.2f} µs"


def _seconds(work: Callable[[], None]) -> float:
    """Return the median time of some work."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def _candidate(text: str) -> Candidate:
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Candidate(
        NewKey(owner_id=_OWNER, display_name="imported"), ForeignSecret.of_digest("hash", digest)
    )


async def _cold(bench: Bench, texts: list[str]) -> float:
    """Return how many imported keys a second are verified that are not in memory."""
    waiting = iter(texts)

    async def verify() -> None:
        for text in waiting:
            assert (await bench.app.verifier.verify(_QUESTION, text)).credential is not None

    began = time.perf_counter()
    await asyncio.gather(*(verify() for _ in range(64)))
    return len(texts) / (time.perf_counter() - began)


def _million() -> int:
    """Return the bytes of a filter that a worker reads a million look-ups into."""
    known = LookUpFilter(1_000_000)
    known.add_hashes(hash(f"sha256:{number:064x}") for number in range(1_000_000))
    return known.size
