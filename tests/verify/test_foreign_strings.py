"""Foreign strings in memory: what is read once, what the feed adds, and what is never denied."""

import asyncio
from collections.abc import Iterator, Sequence

import bcrypt
import pytest

from authsvc.model.credential import Credential, StoredCredential
from authsvc.model.errors import Overloaded, RetryableError, Unavailable
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.look_up import digest_of
from authsvc.model.verdict import VerdictCode
from authsvc.revocation.holder import Holder
from authsvc.revocation.orders import Apply, Forget, Start
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.foreign_strings import ForeignStrings
from authsvc.verify.hasher import IMPORTED
from authsvc.verify.verifier import Verifier
from tests.verify.parts import ACME, GLOBEX, FakeCredentialStore, Parts, Pause, ask, at_once, make_parts

VALID, NOT_FOUND = VerdictCode.VALID, VerdictCode.NOT_FOUND
PLACE = FakeCredentialStore.place


class FakeLookUpStore:
    """The look-ups of all rows, in pages of two."""

    def __init__(self, store: FakeCredentialStore) -> None:
        self._store = store
        self.reads = self.refreshes = 0
        self.fault: RetryableError | None = None
        self.pause: Pause | None = None

    async def list_look_ups(self, after: str) -> tuple[Sequence[str], str, Place]:
        self.reads += 1
        page = sorted(each for each in self._store.rows if each > after)[:2]
        if self.pause is not None:
            await self.pause.here()
        if self.fault is not None:
            raise self.fault
        return page, page[-1] if len(page) == 2 else "", PLACE

    async def refresh(self) -> None:
        self.refreshes += 1


class Foreign:
    """A verifier that accepts foreign strings."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.look_ups = FakeLookUpStore(parts.store)
        self.strings = ForeignStrings(parts.cache, self.look_ups, parts.feed)
        self.verifier = parts.verifier = Verifier(
            mint=parts.mint,
            cache=parts.cache,
            hasher=parts.hasher,
            store=parts.store,
            usage=parts.usage,
            activities=parts.activities,
            activity=parts.activity,
            lease=parts.lease,
            feed=parts.feed,
            clock=parts.clock,
            foreign=self.strings,
        )
        self.holder = Holder(cache=parts.cache, lease=parts.lease, clock=DatabaseClock())
        self.holder.keep(self.strings)

    def imported(self, text: str, prefix: str = "", owner_id: str = "acme") -> str:
        """Store the key of a string, which no entry has told of yet; return its look-up."""
        look_up = prefix or digest_of(text)
        stored = bcrypt.hashpw(text.encode(), bcrypt.gensalt(4)).decode() if prefix else look_up
        credential = Credential(f"key of {look_up}", owner_id, (), None, None, {}, look_up=look_up)
        self.parts.store.rows[look_up] = StoredCredential(credential, stored, IMPORTED)
        return look_up

    def tell(self, *look_ups: str) -> None:
        """Apply an entry that names these."""
        self.holder.obey(Apply([FeedEntry(PLACE, look_ups, None)], PLACE))

    async def code(self, text: str) -> VerdictCode:
        return await self.parts.code(text)


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    parts = make_parts()
    yield Foreign(parts)
    parts.hasher.close()


async def test_what_was_imported_before_the_start_is_read_once(foreign: Foreign) -> None:
    """In pages, for all who ask at the same time; what is none of it never reaches the store."""
    texts = [f"string number {number}" for number in range(5)]
    for text in texts:
        foreign.imported(text)
    codes = await asyncio.gather(*(foreign.code(text) for text in [*texts, "made up", "another"]))
    assert codes == [VALID] * 5 + [NOT_FOUND] * 2
    assert foreign.look_ups.reads == 3
    assert sorted(foreign.parts.store.finds) == sorted(map(digest_of, texts))
    assert at_once(foreign.code(texts[0])) is VALID
    assert at_once(foreign.code("made up, too")) is NOT_FOUND


async def test_without_imports_nothing_is_looked_up(foreign: Foreign) -> None:
    await foreign.strings.warm()
    assert foreign.strings.are_none
    assert at_once(foreign.code("made up")) is NOT_FOUND
    assert foreign.parts.store.finds == []


async def test_it_is_not_denied_before_the_filter_was_read(foreign: Foreign) -> None:
    """The error passes, and the next string has it read again."""
    foreign.imported("string")
    foreign.look_ups.fault = Unavailable("no database", reason="DATABASE_UNAVAILABLE", retry_after=1)
    await foreign.strings.warm()
    for text in ("string", "made up"):
        with pytest.raises(Unavailable):
            await foreign.code(text)
    foreign.look_ups.fault = None
    assert [await foreign.code(text) for text in ("string", "made up")] == [VALID, NOT_FOUND]


async def test_a_node_that_is_behind_is_not_believed(foreign: Foreign) -> None:
    foreign.imported("string")
    foreign.parts.feed.known = [False]
    assert await foreign.code("string") is VALID
    assert foreign.look_ups.refreshes == 1
    foreign.strings.start()
    foreign.parts.feed.known = [False] * 3
    with pytest.raises(Unavailable) as refusal:
        await foreign.code("made up")
    assert refusal.value.reason == "DATABASE_BEHIND"


async def test_an_entry_adds_what_it_names(foreign: Foreign) -> None:
    """By an order or by a hint; a string that was refused before is valid from then on."""
    await foreign.strings.warm()
    assert at_once(foreign.code("string")) is NOT_FOUND
    foreign.tell(foreign.imported("string"))
    assert await foreign.code("string") is VALID
    entry = FeedEntry(PLACE, [foreign.imported("another")], None)
    foreign.holder.obey(Forget(entry))
    assert await foreign.code("another") is VALID


async def test_minted_prefixes_are_not_added(foreign: Foreign) -> None:
    await foreign.strings.warm()
    foreign.tell(*(foreign.parts.mint.mint("eg", "live").prefix for _ in range(3)))
    assert foreign.strings.are_none


async def test_an_entry_during_the_read_is_not_lost(foreign: Foreign) -> None:
    """The page was read before the import, and is added after the entry."""
    foreign.look_ups.pause = Pause()
    asking = asyncio.create_task(foreign.code("made up"))
    await foreign.look_ups.pause.reached()
    foreign.tell(foreign.imported("string"))
    foreign.look_ups.pause.open()
    assert await asking is NOT_FOUND
    assert foreign.look_ups.reads == 1
    assert await foreign.code("string") is VALID


async def test_a_start_during_the_read_has_it_read_again(foreign: Foreign) -> None:
    """What was read before the start may lack what was imported before the new place."""
    foreign.look_ups.pause = Pause()
    asking = asyncio.create_task(foreign.code("string"))
    await foreign.look_ups.pause.reached()
    foreign.imported("string")
    foreign.holder.obey(Start(PLACE, None))
    foreign.look_ups.pause.open()
    assert await asking is VALID
    assert foreign.look_ups.reads == 2


async def test_absence_is_remembered_until_an_import(foreign: Foreign) -> None:
    """A deleted key stays in the filter, and costs one look-up."""
    look_up = foreign.imported("string")
    await foreign.strings.warm()
    row = foreign.parts.store.rows.pop(look_up)
    for _ in range(2):
        assert await foreign.code("string") is NOT_FOUND
    assert foreign.parts.store.finds == [look_up]
    foreign.parts.store.rows[look_up] = row
    foreign.tell(look_up)
    assert await foreign.code("string") is VALID


async def test_an_import_during_the_look_up_is_not_overwritten_by_its_absence(foreign: Foreign) -> None:
    look_up = foreign.imported("string")
    await foreign.strings.warm()
    row = foreign.parts.store.rows.pop(look_up)
    pause = foreign.parts.store.pause(look_up)
    asking = asyncio.create_task(foreign.code("string"))
    await pause.reached()
    foreign.parts.store.rows[look_up] = row
    foreign.tell(look_up)
    pause.open()
    assert await asking is VALID  # it looks again, since what it had found is not admitted
    assert await foreign.code("string") is VALID


async def test_several_keys_may_begin_alike(foreign: Foreign) -> None:
    """Each string is proved by its own; a wrong one by none, whoever imports a longer beginning."""
    long, short = "abcdefgh-ijkl-secret", "abcdef-another-secret"
    foreign.imported(long, "abcdefgh")
    foreign.imported(short, "abcdef")
    foreign.imported("abcdef-digest")
    assert [await foreign.code(text) for text in (short, long, "abcdef-digest")] == [VALID] * 3
    runs = foreign.parts.hasher.runs
    assert [await foreign.code(f"{text}x") for text in (short, long, "abcdef-digest")] == [NOT_FOUND] * 3
    assert foreign.parts.hasher.runs == runs  # both are in memory
    foreign.parts.cache.clear()
    assert await foreign.code(long[:-1]) is NOT_FOUND
    assert foreign.parts.hasher.runs == runs + 2


async def test_a_string_is_proved_whole(foreign: Foreign) -> None:
    """Nothing of a string, and nothing longer, is the string; not even its look-up."""
    text = "abcdefgh-ijkl-secret"
    look_ups = [foreign.imported(text, "abcdefgh"), foreign.imported("digested string")]
    assert await foreign.code(text) is VALID
    for wrong in (*look_ups, text[:-1], text + "x", text.upper(), f" {text}", "", "abcdefgh" * 40):
        assert await foreign.code(wrong) is NOT_FOUND


async def test_another_owner_learns_nothing(foreign: Foreign) -> None:
    foreign.imported("string")
    assert await foreign.parts.code("string", caller=GLOBEX) is NOT_FOUND
    assert await foreign.parts.code("string", caller=ACME) is VALID


async def test_a_minted_string_is_verified_as_before(foreign: Foreign) -> None:
    """It is never looked up as a foreign one, whether it is right, wrong or absent."""
    foreign.imported("string")
    key = foreign.parts.issue()
    forged, absent = foreign.parts.forge(key), foreign.parts.mint.mint("eg", "live")
    codes = [await foreign.code(text.text) for text in (key, forged, absent)]
    assert codes == [VALID, NOT_FOUND, NOT_FOUND]
    foreign.parts.cache.clear()
    assert await foreign.code(forged.text) is NOT_FOUND
    assert set(foreign.parts.store.finds) == {key.prefix, absent.prefix}


async def test_the_hash_is_renewed_when_it_was_proved_only(foreign: Foreign) -> None:
    text = "abcdefgh-ijkl-secret"
    look_up = foreign.imported(text, "abcdefgh")
    assert await foreign.code(text + "x") is NOT_FOUND
    assert foreign.parts.store.replacements == []
    assert await foreign.code(text) is VALID
    [(replaced, _, new)] = foreign.parts.store.replacements
    assert (replaced, new[:10]) == (look_up, "$argon2id$")
    foreign.parts.cache.clear()
    assert [await foreign.code(each) for each in (text, text + "x")] == [VALID, NOT_FOUND]
    assert len(foreign.parts.store.replacements) == 1


async def test_guesses_at_a_cold_key_are_bounded(foreign: Foreign) -> None:
    """Many strings with one look-up prefix at the same time: most are refused, and none is denied wrongly."""
    foreign.imported("abcdefgh-ijkl-secret", "abcdefgh")
    await foreign.strings.warm()
    guesses = [foreign.code(f"abcdefgh-guess-{number}") for number in range(50)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert answers.count(NOT_FOUND) <= 4
    assert all(isinstance(each, Overloaded) or each is NOT_FOUND for each in answers)
    assert await foreign.code("abcdefgh-ijkl-secret") is VALID


async def test_a_batch_with_foreign_strings(foreign: Foreign) -> None:
    """Also if an entry is applied while others are looked up: what was absent is looked for again."""
    texts = ["one string", "two strings", "three strings"]
    foreign.imported(texts[0])
    foreign.imported("abcdefgh-ijkl-secret", "abcdefgh")
    key = foreign.parts.issue()
    pause = foreign.parts.store.pause(key.prefix)
    asked = [(ask(ACME), text) for text in (key.text, *texts, "abcdefgh-wrong", "abcdefgh-ijkl-secret")]
    batch = asyncio.create_task(foreign.verifier.verify_all(asked))
    await pause.reached()
    foreign.tell(foreign.imported(texts[1]))
    pause.open()
    codes = [verdict.code for verdict in await batch]
    assert codes == [VALID, VALID, VALID, NOT_FOUND, NOT_FOUND, VALID]


async def test_a_token_of_an_imported_key(foreign: Foreign) -> None:
    """It names the look-up. What it loads proves no string."""
    text = "abcdefgh-ijkl-secret"
    look_up = foreign.imported(text, "abcdefgh")
    await foreign.strings.warm()
    for known in (look_up, foreign.imported("string")):
        verdict = await foreign.verifier.verify_known(ask(ACME), known, lambda credential: credential)
        assert verdict.code is VALID
    foreign.tell(digest_of("string"))
    assert [await foreign.code(each) for each in (text + "x", text, "string", look_up)] == [
        NOT_FOUND,
        VALID,
        VALID,
        NOT_FOUND,
    ]
