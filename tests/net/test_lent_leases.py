"""The table of what workers have lent to clients, which outlives them."""

import os
import signal
from math import inf

from authsvc.net.lent_leases import LentLeases


def test_what_a_worker_has_lent_is_known_after_its_end() -> None:
    """Before the supervisor has cleared its row, and after that; a new worker in the slot changes nothing."""
    table = LentLeases(2)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        note = table.claim(1, os.getpid())
        note(105.5)
        note(104.0)  # never back
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    assert table.of(pid) == 105.5
    assert table.of_dead() == -inf  # it lives
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert table.of_dead() == table.of(pid) == 105.5
    table.clear(pid)
    assert table.of_dead() == table.of(pid) == 105.5
    table.claim(1, os.getpid())(90.0)
    assert table.of_dead() == table.of(pid) == 105.5


def test_two_workers_of_a_slot_have_rows_of_their_own() -> None:
    table = LentLeases(1)
    old, new = table.claim(0, os.getpid()), table.claim(0, 1)
    old(10.0)
    new(20.0)
    assert (table.of(os.getpid()), table.of(1)) == (10.0, 20.0)


def test_a_worker_without_clients_has_lent_nothing() -> None:
    """Also if it had some, and has waited for them."""
    table = LentLeases(1)
    note = table.claim(0, 7)
    assert table.of(7) == -inf
    note(10.0)
    note(-inf)
    assert table.of(7) == -inf
    note(11.0)
    assert table.of(7) == 11.0
