"""A local network of machines, each in network and process namespaces of its own.

Mechanism: a bridge in a network namespace connects a link of this process's network, which is where clients
run, with a link of each machine. The first process of a machine is process 1 of its process namespace, so all
of the machine can be killed or stopped at once.

Bound: nothing of this machine's network is used except one link, with an address of the benchmarking range
(RFC 2544). All neighbours are entered by hand: the packets to a machine that is cut off vanish, as those to a
lost machine behind a router do. Without that, the kernel would report "no route to host" after three seconds.

Failure: machines die with the thread that started them, whatever ends it. Then their namespaces remain;
`ip netns` lists them as `patroni-<process id>-<name>`.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Unsupported(Exception):
    """This machine cannot run the network; the text says why."""


class Machine:
    """A machine that runs one program, and whatever that starts."""

    def __init__(self, lan: "Lan", name: str, number: int, home: Path) -> None:
        self.name = name
        self.number = number
        self.address = f"198.18.{lan.block}.{number}"
        self.home = home
        self._lan = lan
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """The output of the program, in all its starts."""
        return self._log.read_text("utf-8", errors="replace")

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _log(self) -> Path:
        return self.home / "log"

    @property
    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self._lan.namespace(self.name)]

    def start(self, *command: str | Path) -> None:
        """Start the program under the account."""
        assert not self.runs, f"{self.name} runs"
        uid, gid = map(str, self._lan.account)
        dies = ["--pdeathsig", "KILL"]
        # The signal at the death of the parent is cleared by setuid, so it is set once more.
        isolated = ["setpriv", *dies, "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        as_account = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", *dies]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, *isolated, *as_account, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env={"PATH": f"{os.defpath}:/usr/sbin", "LC_ALL": "C.UTF-8", "HOME": str(self.home)},
            )

    def run(self, *command: str | Path) -> str:
        """Run another program to its end, in the machine's network; return its output."""
        done = subprocess.run(
            [*self._inside, *map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """SIGKILL everything, as when the power is lost."""
        if self._process is not None:
            for pid in self._pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP everything; repeatedly, because a process may fork meanwhile."""
        stopped: set[int] = set()
        while running := set(self._pids()) - stopped:
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= running

    def thaw(self) -> None:
        """SIGCONT everything."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def processes(self, argument: str) -> list[int]:
        """Return the processes with this argument."""
        found = []
        for pid in self._pids():
            with suppress(OSError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                if argument in arguments:
                    found.append(pid)
        return found

    def cut(self) -> None:
        """Disconnect the machine: packets in both directions are lost without an error."""
        self._lan.link(self.number, "down")

    def heal(self) -> None:
        """Connect it again."""
        self._lan.link(self.number, "up")

    def _pids(self) -> list[int]:
        """Return the processes in the machine's process namespace."""
        if self._process is None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with suppress(OSError, IndexError):
            first = children.read_text("ascii").split()[0]
            namespace = os.readlink(f"/proc/{first}/ns/pid")  # noqa: PTH115 - it is no path
            return [pid for pid in _all_pids() if _namespace(pid) == namespace]
        return []


class Lan:
    """The network, with the account that the machines' programs run under."""

    def __init__(self, account: tuple[int, int]) -> None:
        self.account = account
        self.block = os.getpid() % 250 + 1
        self._prefix = f"patroni-{os.getpid()}"
        self._names: list[str] = []
        self._neighbours: list[tuple[list[str], str, int]] = [([], self._link, 1)]

    @property
    def _link(self) -> str:
        return f"pt{self.block}"

    def namespace(self, name: str) -> str:
        """Return the name of a machine's network namespace."""
        return f"{self._prefix}-{name}"

    def lay(self) -> None:
        """Create the bridge, and our link to it; raise Unsupported where that is not allowed."""
        lan = self.namespace("lan")
        if subprocess.run(["ip", "netns", "add", lan], capture_output=True, check=False).returncode:
            raise Unsupported("network namespaces cannot be made here")
        self._names.append("lan")
        _ip("-n", lan, "link", "add", "bridge", "type", "bridge")
        _ip("-n", lan, "link", "set", "bridge", "up")
        self._connect([], self._link, 1)

    def join(self, name: str, number: int, home: Path) -> Machine:
        """Add a machine, with a directory of its own."""
        home.mkdir()
        os.chown(home, *self.account)
        space = self.namespace(name)
        _ip("netns", "add", space)
        self._names.append(name)
        _ip("-n", space, "link", "set", "lo", "up")
        self._connect(["-n", space], "lan", number)
        for place, link, other in self._neighbours:
            self._introduce(place, link, number)
            self._introduce(["-n", space], "lan", other)
        self._neighbours.append((["-n", space], "lan", number))
        return Machine(self, name, number, home)

    def link(self, number: int, state: str) -> None:
        """Set the bridge's end of a machine's link up or down."""
        _ip("-n", self.namespace("lan"), "link", "set", f"port{number}", state)

    def remove(self) -> None:
        """Delete our link and all namespaces, with the links in them."""
        # With its other end it would be deleted some time after the namespace.
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
        for name in reversed(self._names):
            _ip("netns", "delete", self.namespace(name))

    def _connect(self, place: list[str], link: str, number: int) -> None:
        lan = self.namespace("lan")
        there = ["peer", "name", f"port{number}", "netns", lan]
        _ip(*place, "link", "add", link, "address", _hardware(number), "type", "veth", *there)
        _ip("-n", lan, "link", "set", f"port{number}", "master", "bridge", "up")
        _ip(*place, "address", "add", f"198.18.{self.block}.{number}/24", "dev", link)
        _ip(*place, "link", "set", link, "up")

    def _introduce(self, place: list[str], link: str, number: int) -> None:
        known = [f"198.18.{self.block}.{number}", "lladdr", _hardware(number), "nud", "permanent"]
        _ip(*place, "neighbour", "replace", *known, "dev", link)


@contextmanager
def lan(account: tuple[int, int]) -> Iterator[Lan]:
    """Create a network while the block runs; raise Unsupported without the permission for it."""
    missing = [program for program in ("ip", "ss", "setpriv", "unshare") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        raise Unsupported("needs root and iproute2")
    made = Lan(account)
    try:
        made.lay()
        yield made
    finally:
        made.remove()


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _all_pids() -> Sequence[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _namespace(pid: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - it is no path
    return ""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
