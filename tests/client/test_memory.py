"""What a client remembers: judged as in a worker, by one process, in any thread."""

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from math import inf
from typing import Any

import pytest

from authsvc.client import CredentialType, Verdict, VerdictCode
from authsvc.client.held import credential_of
from authsvc.client.memory import Memory
from authsvc.client.questions import about_key, about_session
from authsvc.model.credential import ALWAYS, CredentialKind
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.question import Question
from tests.client.follow_standin import NOW, a_key, a_session, key_string, prefix

KEY = about_key((), "192.0.2.7")
SESSION = about_session((), "", "", None)


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def memory(watch: Watch) -> Memory:
    """A memory of this process with a sub-lease of 5 s."""
    memory = Memory(100, watch)
    memory.start(100)
    memory.grant(watch.now + 5, NOW, watch.now, watch.now)
    return memory


def admit(memory: Memory, text: str, message: pb.HeldCredential) -> None:
    memory.admit(prefix(text), memory.digest(text), credential_of(message))


def code(memory: Memory, text: str, question: Question = KEY) -> VerdictCode | None:
    found = memory.recall(question, text)
    return None if found is None else found.code


def test_a_verdict_is_that_of_an_answer(memory: Memory) -> None:
    """All fields of a key; each verdict has annotations of its own."""
    text = key_string()
    message = a_key(scopes=["b", "a"], annotations={"team": "x"}, expire_time=NOW + timedelta(hours=1))
    admit(memory, text, message)
    first, second = (memory.recall(about_key("a", ""), text) for _ in range(2))
    assert (
        first
        == second
        == Verdict(
            VerdictCode.VALID,
            CredentialType.KEY,
            "key_1",
            "acme",
            ("b", "a"),
            NOW + timedelta(hours=1),
            {"team": "x"},
        )
    )
    assert first is not None
    assert isinstance(first.annotations, dict)
    first.annotations.clear()
    assert second is not None
    assert second.annotations == {"team": "x"}


@pytest.mark.parametrize(
    ("fields", "scopes", "expected"),
    [
        ({}, (), "VALID"),
        ({}, ("b",), "INSUFFICIENT_SCOPE"),
        ({"scopes": ["full_access"]}, ("b",), "VALID"),
        ({"disabled": True}, (), "DISABLED"),
        ({"disabled": True, "disabled_until": NOW + timedelta(seconds=1)}, (), "DISABLED"),
        ({"disabled": True, "disabled_until": NOW}, (), "VALID"),
        ({"expire_time": NOW}, (), "EXPIRED"),
        ({"expire_time": NOW + timedelta(seconds=1)}, (), "VALID"),
        ({"revoke_time": NOW}, (), "REVOKED"),
        ({"revoke_time": NOW + timedelta(seconds=1)}, (), "VALID"),
        ({"revoke_time": ALWAYS}, (), "REVOKED"),
    ],
)
def test_keys_are_judged_as_in_a_worker(
    memory: Memory, fields: dict[str, Any], scopes: tuple[str, ...], expected: str
) -> None:
    text = key_string()
    admit(memory, text, a_key(**fields))
    found = memory.recall(about_key(scopes, ""), text)
    assert found is not None
    assert (found.code.name, found.credential_id) == (expected, "key_1")


def test_networks_are_judged_as_in_a_worker(memory: Memory) -> None:
    """An address that is not allowed, or not known, is asked about, so that the contacts are told of it."""
    text = key_string()
    admit(memory, text, a_key(allowed_networks=["192.0.2.0/24"], owner_networks=["192.0.2.7/32"]))
    codes = []
    for address in ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8", "198.51.100.7", ""):
        found = memory.recall(about_key((), address), text)
        codes.append(None if found is None else found.code)
    assert codes == [VerdictCode.VALID, VerdictCode.VALID, None, None, None]


def test_any_of_scopes(memory: Memory) -> None:
    text = key_string()
    admit(memory, text, a_key(scopes=["a"]))
    codes = []
    for any_of in ((), "a", ("b", "a"), ("b", "c")):
        found = memory.recall(about_key((), "", any_of), text)
        assert found is not None
        codes.append(found.code)
    assert codes == [*[VerdictCode.VALID] * 3, VerdictCode.INSUFFICIENT_SCOPE]


def test_times_go_by_the_clock_of_the_service(memory: Memory, watch: Watch) -> None:
    """The reading is carried forward by the stopwatch; the clock of this machine does not matter."""
    expiring, ending = key_string(), key_string()
    admit(memory, expiring, a_key(expire_time=NOW + timedelta(seconds=3)))
    admit(memory, ending, a_key(revoke_time=NOW + timedelta(seconds=4)))
    watch.now += 2.99
    assert (code(memory, expiring), code(memory, ending)) == (VerdictCode.VALID, VerdictCode.VALID)
    watch.now += 0.01
    assert code(memory, expiring) is VerdictCode.EXPIRED
    watch.now += 1
    assert code(memory, ending) is VerdictCode.REVOKED


def test_what_is_not_known_is_asked(memory: Memory) -> None:
    """Another prefix. Another string with the same prefix has a wrong secret."""
    text = key_string()
    admit(memory, text, a_key())
    assert code(memory, key_string()) is None
    assert code(memory, "") is None
    for wrong in (text[:-1] + ("a" if text[-1] != "a" else "b"), text[:-20] + "é" * 20):
        assert memory.recall(KEY, wrong) == Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
    assert memory.recall(SESSION, text) == Verdict(VerdictCode.NOT_FOUND, CredentialType.SESSION)


def test_the_sub_lease_is_looked_at_last(memory: Memory, watch: Watch) -> None:  # R16
    """From the instant at which it is over, nothing is answered, not even that a secret is wrong."""
    text = key_string()
    admit(memory, text, a_key())
    watch.now += 4.999
    assert code(memory, text) is VerdictCode.VALID
    assert memory.lease_left == pytest.approx(0.001)
    watch.now += 0.001
    assert code(memory, text) is None
    assert code(memory, text[:-1] + "-") is None
    assert memory.lease_left == 0


def test_nothing_is_answered_before_the_start(watch: Watch) -> None:
    """Without a process that follows, or without a sub-lease."""
    memory, text = Memory(10, watch), key_string()
    memory.grant(inf, NOW, 0, 0)
    admit(memory, text, a_key())
    assert code(memory, text) is None
    memory.start(10)
    admit(memory, text, a_key())
    assert code(memory, text) is None


def test_a_start_and_an_end_empty_it(memory: Memory, watch: Watch) -> None:  # R12
    """Also if there is a new sub-lease at once."""
    text = key_string()
    empties: list[Callable[[], None]] = [lambda: memory.start(100), lambda: memory.end("over")]
    for empty in empties:
        admit(memory, text, a_key())
        assert code(memory, text) is VerdictCode.VALID
        empty()
        assert memory.lease_left == 0
        memory.grant(watch.now + 5, NOW, watch.now, watch.now)
        assert code(memory, text) is None


def _later_sub_lease(memory: Memory, text: str) -> None:
    memory.forget([prefix(text)], "", None, everything=False)
    memory.grant(1200, NOW, 1100, 1100)


ORDERS: dict[str, Callable[[Memory, str], None]] = {
    "a later sub-lease": _later_sub_lease,
    "forget": lambda memory, text: memory.forget([prefix(text)], "", None, everything=False),
    "grant": lambda memory, text: memory.grant(1200, NOW, 1100, 1100),
    "end": lambda memory, text: memory.end("over"),
    "start": lambda memory, text: memory.start(10),
    "admit": lambda memory, text: admit(memory, text, a_key()),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_no_order_is_carried_out_between_the_entry_and_the_sub_lease(
    watch: Watch, order: Callable[[Memory, str], None]
) -> None:  # R16
    """A thread that is stopped there does not continue under a later sub-lease, with an entry from before."""
    is_done = threading.Event()
    overtook: list[bool] = []

    def stopped() -> float:
        """Let the time pass in which the orders of the worker come, if they can be carried out."""
        if threading.current_thread() is asking and not overtook:
            watch.now = 1100
            carrying_out.start()
            overtook.append(is_done.wait(0.2))
        return watch.now

    def carry_out() -> None:
        order(memory, text)
        is_done.set()

    memory, text, found = Memory(10, stopped), key_string(), []
    asking = threading.Thread(target=lambda: found.append(memory.recall(KEY, text)))
    carrying_out = threading.Thread(target=carry_out)
    memory.start(10)
    memory.grant(1005, NOW, 1000, 1000)
    admit(memory, text, a_key())
    asking.start()
    asking.join()
    carrying_out.join()
    assert (found, overtook) == ([None], [False])


def test_many_threads_ask_while_orders_come(memory: Memory) -> None:
    """Uses are neither lost nor counted twice; nothing that was forgotten is answered."""
    texts = [key_string() for _ in range(20)]
    stop = threading.Event()
    faults: list[str] = []
    answers = [0] * 4
    forgotten: set[str] = set()

    def ask(number: int) -> None:
        while not stop.is_set():
            for text in texts:
                was_forgotten = text in forgotten
                if memory.recall(KEY, text) is not None:
                    answers[number] += 1
                    if was_forgotten:
                        faults.append(text)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(len(answers))]
    for text in texts:
        admit(memory, text, a_key(credential_id=f"key_{text}"))
    for thread in threads:
        thread.start()
    seen: set[str] = set()
    for text in texts:
        while len(seen) < 20 and not set(texts) <= seen:
            seen |= {note[0].removeprefix("key_") for note in memory.take_uses().keys}
        memory.forget([prefix(text)], "", None, everything=False)
        forgotten.add(text)
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sum(answers) == memory.answered
    assert seen == set(texts)


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ({"prefixes": ["key"]}, {"session", "other"}),
        ({"owner_id": "acme"}, {"other"}),
        ({"owner_id": "acme", "kind": CredentialKind.SESSION}, {"key", "other"}),
        ({"owner_id": "acme", "kind": CredentialKind.KEY}, {"session", "other"}),
        ({"everything": True}, set()),
        ({"owner_id": "globex"}, {"key", "session", "other"}),
    ],
)
def test_what_an_order_forgets(memory: Memory, order: dict[str, Any], left: set[str]) -> None:  # R14
    """The prefixes, an owner, one kind of an owner, or everything."""
    texts = {"key": key_string(), "session": key_string("session"), "other": key_string()}
    admit(memory, texts["key"], a_key())
    admit(memory, texts["session"], a_session(owner_id="acme"))
    admit(memory, texts["other"], a_key(owner_id="umbrella"))
    given: dict[str, Any] = {"prefixes": [], "owner_id": "", "kind": None, "everything": False, **order}
    given["prefixes"] = [prefix(texts[name]) for name in given["prefixes"]]
    memory.forget(given["prefixes"], given["owner_id"], given["kind"], everything=given["everything"])
    asked = {name: SESSION if name == "session" else KEY for name in texts}
    assert {name for name in texts if code(memory, texts[name], asked[name]) is VerdictCode.VALID} == left


def test_sessions_end_at_the_same_instant_as_in_a_worker(memory: Memory, watch: Watch) -> None:
    """Near the idle end, and after it, authsvc is asked. What is certain is answered here."""
    text = key_string("session")
    admit(memory, text, a_session(idle=48, expire_time=NOW + timedelta(hours=1)))
    found = memory.recall(SESSION, text)
    assert found is not None
    assert (found.code, found.expire_time) == (VerdictCode.VALID, NOW + timedelta(seconds=48))
    watch.now += 2.999
    found = memory.recall(SESSION, text)
    assert found is not None
    # The end moves with the activity.
    assert found.expire_time == NOW + timedelta(seconds=50.999)
    watch.now += 0.001
    assert code(memory, text, SESSION) is None
    assert memory.knows(text)
    memory.grant(2000, NOW, watch.now, watch.now + 0.1)
    watch.now += 600
    assert code(memory, text, SESSION) is None


def test_what_is_certain_of_a_session(memory: Memory) -> None:
    """One that is over stays over; a lifetime is not extended; one is revoked like a key."""
    over = a_session()
    over.activity.over = True
    for message, expected in (
        (over, VerdictCode.EXPIRED),
        (a_session(expire_time=NOW), VerdictCode.EXPIRED),
        (a_session(recorded=NOW - timedelta(days=1), expire_time=NOW), VerdictCode.EXPIRED),
        (a_session(revoke_time=NOW), VerdictCode.REVOKED),
        (a_session(recorded=NOW - timedelta(seconds=1755)), None),
        (a_session(recorded=NOW - timedelta(seconds=1754)), VerdictCode.VALID),
    ):
        text = key_string("session")
        admit(memory, text, message)
        assert code(memory, text, SESSION) is expected


def test_a_session_that_is_sent_again_keeps_its_last_activity(memory: Memory, watch: Watch) -> None:
    """The worker may not have been told of it yet."""
    text = key_string("session")
    admit(memory, text, a_session())
    watch.now += 3
    assert code(memory, text, SESSION) is VerdictCode.VALID
    admit(memory, text, a_session())
    # A verdict that is not VALID is no activity.
    found = memory.recall(about_session("b", "", "", None), text)
    assert found is not None
    assert (found.code, found.expire_time) == (
        VerdictCode.INSUFFICIENT_SCOPE,
        NOW + timedelta(seconds=1803),
    )


def test_what_is_evicted_is_released(watch: Watch) -> None:
    """But not while its string is held again, or is awaited: the worker would not tell of its changes."""
    memory = Memory(4, watch)
    memory.start(4)  # room for three
    texts = [key_string() for _ in range(6)]
    for text in texts[:5]:
        admit(memory, text, a_key())
    assert len(memory) == 3
    gone = [prefix(text) for text in texts[:2]]
    assert memory.take_evicted({gone[0]}) == [gone[1]]
    assert memory.take_evicted({gone[0]}) == []
    admit(memory, texts[0], a_key())  # evicts the third
    assert memory.take_evicted([]) == [prefix(texts[2])]
    assert memory.take_evicted([]) == []


def uses(memory: Memory) -> list[tuple[str, datetime, str]]:
    taken = memory.take_uses()
    memory.keep_uses(taken)
    of_keys = [(use.key_id, use.last_use_time, use.client_ip) for use in taken.keys]
    return of_keys + [(note[0], note[1][0], note[1][1]) for note in taken.sessions]


def test_uses_are_noted_and_kept(memory: Memory, watch: Watch) -> None:
    """The last one of each credential, by the clock of the service; none of what is not VALID."""
    one, two, bad = key_string(), key_string("session"), key_string()
    admit(memory, one, a_key())
    admit(memory, two, a_session())
    admit(memory, bad, a_key(credential_id="key_2", disabled=True))
    for _ in range(3):
        watch.now += 1
        for text, question in ((one, KEY), (two, SESSION), (bad, KEY)):
            memory.recall(question, text)
    expected = [("key_1", NOW + timedelta(seconds=3), "192.0.2.7"), ("ses_1", NOW + timedelta(seconds=3), "")]
    assert uses(memory) == expected
    assert uses(memory) == expected
    taken = memory.take_uses()
    watch.now += 1
    memory.recall(KEY, one)
    memory.keep_uses(taken)
    assert uses(memory)[0][1] == NOW + timedelta(seconds=4)


def test_nothing_of_a_string_is_kept(memory: Memory) -> None:  # rule 1
    """Neither the secret nor the tag is anywhere in it."""
    text = key_string()
    admit(memory, text, a_key())
    assert code(memory, text) is VerdictCode.VALID

    def everything(thing: object, seen: set[int]) -> Iterator[object]:
        if id(thing) in seen or isinstance(thing, type(threading) | type):
            return
        seen.add(id(thing))
        yield thing
        slots = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
        parts = [*vars(thing).values()] if hasattr(thing, "__dict__") else []
        if isinstance(thing, dict):
            parts += [*thing, *thing.values()]
        elif isinstance(thing, list | tuple | set):
            parts += thing
        for part in (*slots, *parts):
            yield from everything(part, seen)

    found = [thing for thing in everything(memory, set()) if isinstance(thing, str | bytes)]
    assert prefix(text) in found
    secret = text.removeprefix(prefix(text))
    assert not [
        thing for thing in found if secret[:12] in str(thing) or secret.encode()[:12] in repr(thing).encode()
    ]
    assert secret not in repr(memory)


_FORK = """
import os, sys, threading
from authsvc.client.memory import Memory
from tests.client.test_memory import KEY, NOW, a_key, admit, code, key_string

memory, text = Memory(10), key_string()
memory.start(10)
memory.grant(float("inf"), NOW, 0, 0)
admit(memory, text, a_key())
parent = os.getpid()

def told(name, prepare=lambda: None):
    child = os.fork()
    if child == 0:
        import signal
        signal.alarm(20)  # ends a child that hangs
        prepare()
        found = code(memory, text)
        print(name, found and found.name, len(memory), memory.lease_left, memory.knows(text), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def another_pid():
    os.getpid = lambda: parent

told("child")
told("same_pid", another_pid)
with memory._lock:
    told("locked")
memory.forked = lambda: None
told("no_hook")
del memory.forked
print("parent", code(memory, text).name)
"""


def test_a_forked_process_has_nothing() -> None:  # R16
    """By the hook and by the number of the process, also if the lock is taken. The parent goes on."""
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "child None 0 0.0 False",
        "same_pid None 0 0.0 False",
        "locked None 0 0.0 False",
        "no_hook None 1 0.0 False",
        "parent VALID",
    ]


def test_a_memory_is_not_kept_alive() -> None:
    """The hook for forks does not hold on to it."""
    gone = weakref.ref(Memory(10))
    gc.collect()
    assert gone() is None
