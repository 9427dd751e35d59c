"""Connections are spread evenly over workers: their table, real sockets that share a port, and a clock."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from authsvc.net.reuseport import natural
from authsvc.net.worker_loads import UNKNOWN, Arrivals, Row, WorkerLoads, worker_loads
from authsvc.rpc.balance import Balance, arrived, over_share
from authsvc.rpc.peer import End
from tests.e2e.process import free_port, on_linux

_HOST = "127.0.0.1"


@dataclass(eq=False)
class Worker:
    """A worker that accepts connections; a caller is authenticated on each of them at once."""

    balance: Balance
    listener: socket.socket
    ends: dict[End, socket.socket] = field(default_factory=dict)

    def accept(self) -> bool:
        try:
            connection, end = self.listener.accept()
        except BlockingIOError:
            return False
        self.ends[end] = connection
        self.balance.note_new(len(self.ends))
        return True

    def look(self) -> None:
        self.balance.look(self.ends, len(self.ends))

    def drop(self, number: int) -> None:
        """Close some connections."""
        for end in list(self.ends)[:number]:
            self.ends.pop(end).close()


class Pack:
    """Workers that share a port and a table, as those of one supervisor."""

    def __init__(self, workers: int) -> None:
        self.now = 100.0
        self._started = 0
        self.loads = WorkerLoads(workers)
        self.port = free_port()
        self.workers: list[Worker] = []
        self.clients: list[socket.socket] = []
        for slot in range(workers):
            self.start(slot)

    def start(self, slot: int) -> Worker:
        """Start a worker with a process id of its own."""
        self._started += 1
        pid = self._started
        listener = socket.create_server((_HOST, self.port), reuse_port=True)
        listener.setblocking(False)
        worker = Worker(Balance(self.loads, slot, lambda: self.now, pid), listener)
        worker.balance.begin(listener.dup)
        self.workers.append(worker)
        return worker

    def end(self, worker: Worker) -> None:
        """Have a worker end: its socket first, as the system does; then its supervisor notices."""
        self.workers.remove(worker)
        pid = self.loads.row(worker.balance._place).pid
        worker.listener.close()
        worker.drop(len(worker.ends))
        self.loads.clear(pid)

    def look(self) -> None:
        """Have all workers look, twice, since one learns from what others have written."""
        for _ in range(2):
            self.now += 0.5
            for worker in self.workers:
                worker.look()

    def connect(self, number: int = 1, *, calmly: bool = True, leads_to: int | None = None) -> list[Worker]:
        """Open connections, and return which workers got them; `calmly` one after the other.

        From any port, or from one that by itself `leads_to` the socket of a number.
        """
        got = []
        for _ in range(number):
            source = free_port()
            while leads_to is not None and leads_to != natural(
                source, len(self.loads.listening()), self.loads.epoch.secret
            ):
                source = free_port()
            client = socket.create_connection((_HOST, self.port), 10, (_HOST, source))
            self.clients.append(client)
            got.append(next(worker for worker in self.workers if worker.accept()))
            if calmly:
                self.look()
        return got

    @property
    def counts(self) -> list[int]:
        return [len(worker.ends) for worker in self.workers]

    def close(self) -> None:
        """Close all sockets."""
        for client in self.clients:
            client.close()
        for worker in self.workers:
            worker.listener.close()
            worker.drop(len(worker.ends))


@pytest.fixture
def packs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _pack(packs: ExitStack, workers: int) -> Pack:
    pack = Pack(workers)
    packs.callback(pack.close)
    return pack


def _learned(pack: Pack) -> None:
    """Connect until every worker knows the number of its socket, as it does after its first connection."""
    for _ in range(200):
        rows = pack.loads.listening()
        if all(row.socket != UNKNOWN and row.epoch == pack.loads.epoch.number for row in rows):
            return
        pack.connect()
    raise AssertionError(f"nobody learns: {rows}")


@on_linux
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_connections_are_spread_evenly(packs: ExitStack, workers: int) -> None:
    """The numbers of connections differ by one at most, from when each worker has had one."""
    pack = _pack(packs, workers)
    _learned(pack)
    pack.connect(max(pack.counts) * workers - sum(pack.counts))
    for _ in range(4 * workers):
        assert max(pack.counts) - min(pack.counts) <= 1
        pack.connect()


@on_linux
def test_whose_socket_has_which_number(packs: ExitStack) -> None:
    """Told by where a connection from a port came to; not by one that came past an excluded worker."""
    pack = _pack(packs, 2)
    pack.look()
    first, second = pack.workers
    assert pack.connect(leads_to=0) == [first]
    assert pack.loads.excluded == {0}
    assert pack.connect(2, leads_to=0) == [second, first]
    assert [row.socket for row in pack.loads.listening()] == [0, UNKNOWN]
    assert pack.connect(leads_to=1) == [second]
    assert [row.socket for row in pack.loads.listening()] == [0, 1]


@on_linux
def test_what_is_uneven_is_corrected(packs: ExitStack) -> None:
    """Each connection that ends by its age, and is opened again, comes to a worker that has too few."""
    pack = _pack(packs, 2)
    _learned(pack)
    pack.connect(16, calmly=False)
    first, second = pack.workers
    second.drop(len(second.ends))
    pack.look()
    assert len(first.ends) > 1
    while len(first.ends) > len(second.ends) + 1:
        first.drop(1)
        pack.look()
        assert pack.connect() == [second]


@on_linux
def test_a_new_worker_gets_its_share(packs: ExitStack) -> None:
    """After a crash, as in a rolling restart: whose socket has which number is learned again."""
    pack = _pack(packs, 3)
    _learned(pack)
    pack.connect(9)
    before = pack.loads.epoch
    pack.end(pack.workers[0])
    fresh = pack.start(0)
    pack.look()
    assert pack.loads.epoch.number > before.number
    assert pack.loads.epoch.members != before.members
    _learned(pack)
    pack.connect(max(pack.counts) * 3 - sum(pack.counts))
    assert len(fresh.ends) > 1
    assert max(pack.counts) - min(pack.counts) <= 1


@on_linux
def test_who_leaves_gets_nothing(packs: ExitStack) -> None:
    """A worker that drains no longer listens; the others are told apart again."""
    pack = _pack(packs, 3)
    _learned(pack)
    leaving = pack.workers.pop(0)
    packs.callback(leaving.drop, len(leaving.ends))
    leaving.listener.close()
    leaving.balance.leave()
    pack.look()
    _learned(pack)
    pack.connect(max(pack.counts) * 2 - sum(pack.counts))
    for _ in range(8):
        pack.connect()
        assert max(pack.counts) - min(pack.counts) <= 1


@on_linux
def test_a_burst_is_not_led_to_one_worker(packs: ExitStack) -> None:
    """While very many connections arrive, which nobody has counted yet, no worker is excluded."""
    pack = _pack(packs, 2)
    _learned(pack)
    pack.connect(2 * max(pack.counts) - sum(pack.counts) + 1)
    assert len(pack.loads.excluded) == 1
    pack.connect(5, calmly=False)
    assert pack.loads.excluded == frozenset()
    for worker in pack.workers:
        worker.look()
    assert pack.loads.excluded == frozenset()
    pack.workers[0].drop(1)
    pack.look()
    assert (len(pack.loads.excluded) == 1) == (pack.counts[0] != pack.counts[1])


@on_linux
@pytest.mark.parametrize("already", [False, True])
def test_a_worker_that_hangs_gets_nothing(
    packs: ExitStack, caplog: pytest.LogCaptureFixture, already: bool
) -> None:
    """Also in a burst, and for as long as it hangs; this is logged once."""
    pack = _pack(packs, 2)
    _learned(pack)
    if pack.counts[0] == pack.counts[1]:
        pack.connect()
    # The one with more than its share is excluded already.
    hangs = (max if already else min)(pack.workers, key=lambda worker: len(worker.ends))
    pack.workers.remove(hangs)
    before = len(hangs.ends)
    packs.callback(hangs.drop, before)
    packs.callback(hangs.listener.close)
    pack.now += 10
    pack.look()
    pack.connect(4)
    pack.connect(4, calmly=False)  # Each is accepted by the other.
    assert caplog.text.count("hangs; new connections go to the others") == 1
    pack.workers.append(hangs)
    pack.look()
    pack.connect(8)
    assert len(hangs.ends) > before


def test_who_has_more_than_its_share() -> None:
    """By the number that it told in this epoch; only those that may hang, unless all may."""
    rows = [Row(1, 10.0, True, 5, 7, 0), Row(2, 10.0, True, 3, 7, 1), Row(3, 10.0, True, 5, 6, 2)]
    assert over_share(rows, 7, 10.5) == {0}
    assert over_share(rows, 6, 10.5) == {2}
    assert over_share(rows[:2], 7, 13.5) == frozenset()
    assert over_share([rows[0], rows[1]._replace(time=13.0)], 7, 13.5) == {0}
    assert over_share([rows[0]._replace(time=13.0), rows[1]], 7, 13.5) == {1}
    assert over_share([rows[0], rows[1]._replace(connections=5)], 7, 10.5) == frozenset()
    assert over_share([rows[0]._replace(socket=UNKNOWN), rows[1]], 7, 10.5) == frozenset()
    assert over_share([], 7, 10.5) == frozenset()


def test_what_a_burst_is() -> None:
    """More connections in a tenth of a second than usual; half a second after the last of them it is over."""
    arrivals = Arrivals()
    for _ in range(4):
        arrivals = arrived(arrivals, 4, 100.0)
    assert arrivals.burst_until == 0.0
    assert arrived(arrivals, 4, 100.05).burst_until == 100.55
    assert arrived(arrivals, 4, 100.2).burst_until == 0.0


def test_rows_of_a_slot() -> None:
    """In a rolling restart two workers have the slot; the row of one that has ended is free."""
    loads = worker_loads(2)
    if loads is None:
        pytest.skip("no memory to share")
    assert [loads.claim(0, 11), loads.claim(1, 12), loads.claim(1, 13)] == [0, 2, 3]
    loads.clear(12)
    assert [row.pid for row in map(loads.row, range(4))] == [11, 0, 0, 13]
    assert loads.claim(1, 14) == 2
    loads.write(2, Row(14, 1.5, True, 3, 4, 1))
    assert loads.listening() == [Row(14, 1.5, True, 3, 4, 1)]
    assert worker_loads(1) is None
