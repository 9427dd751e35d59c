"""A child process that does not outlive this one; under another account if this one is root's."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future

# Becomes `initdb` or `postgres`. There is no preexec_fn, which is unsafe in a process with threads, and no
# `user=`, because the account may not reach Python. The death signal is set after setuid, which clears it.
# The parent is checked last, because it may have died before.
_LAUNCHER = """
import ctypes, os, sys
parent, uid, gid, *command = sys.argv[1:]
libc = ctypes.CDLL(None)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
os.umask(0o077)
if sys.platform == "linux" and libc.prctl(1, 2, 0, 0, 0) != 0:  # PR_SET_PDEATHSIG, SIGINT
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != int(parent):
    sys.exit("the parent is gone")
os.execv(command[0], command)
"""


def spawn(command: list[str], account: tuple[int, int], output: int) -> "subprocess.Popen[bytes]":
    """Run a program as the account, from a thread that lives as long as the program.

    The kernel sends the death signal when the spawning thread ends, not when its process does. `output` is
    the file descriptor for the program's output. Raises OSError when the launcher cannot be started.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, (os.getpid(), *account))]
    spawned: Future[subprocess.Popen[bytes]] = Future()

    def spawn_and_reap() -> None:
        try:
            child = subprocess.Popen(  # noqa: S603
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},  # without PG* variables and our secrets
                start_new_session=True,
            )
        except Exception as error:  # noqa: BLE001 - raised in the calling thread
            spawned.set_exception(error)
        else:
            spawned.set_result(child)
            child.wait()

    threading.Thread(target=spawn_and_reap, name="devpg", daemon=True).start()
    return spawned.result()
