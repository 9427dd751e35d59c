"""Processes of this machine, by their ids."""

import os


def is_alive(pid: int) -> bool:
    """Return whether there is a process with this id, which may have ended and not been waited for yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
