"""The auxiliary processes of a replica: the follower, the notifier and the admin listener."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Self

from authsvc.config.settings import Settings
from authsvc.process import follower, notifier
from authsvc.process.admin import listener
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import NEVER
from authsvc.process.children import Children
from authsvc.process.shared import Shared


class Auxiliaries:
    """All auxiliary processes of a supervisor, in the order in which they start."""

    def __init__(self, each: Sequence[Auxiliary]) -> None:
        self._each = each

    @classmethod
    def of(
        cls,
        settings: Settings,
        children: Children,
        shared: Shared,
        pids: Callable[[], Collection[int]],
        others: Sequence[Auxiliary],
    ) -> Self:
        """Return those of a replica with these settings, whose workers are `pids`, and some others."""
        each = []
        if shared.follower is not None:
            each.append(
                follower.auxiliary(settings, children, shared.follower, shared.lent, pids, shared.admin)
            )
        each.append(notifier.auxiliary(settings, children, shared.admin))
        if shared.admin is not None and settings.admin_listen is not None:
            context = partial(listener.listening, settings.admin_listen, shared.admin, settings.workers)
            most = listener.MAX_STOP_SECONDS
            each.append(Auxiliary(children, "the admin listener", context, max_stop_seconds=most))
        return cls([*each, *others])

    @property
    def look_time(self) -> float:
        """When to look at the latest, in monotonic seconds."""
        return min((auxiliary.look_time for auxiliary in self._each), default=NEVER)

    def start(self) -> None:
        """Fork them."""
        for auxiliary in self._each:
            auxiliary.start()

    def look(self) -> str:
        """Read their reports; return why one that is needed could not start, or an empty string."""
        for auxiliary in self._each:
            auxiliary.look()
        return next((auxiliary.fault for auxiliary in self._each if auxiliary.fault), "")

    @property
    def awaited(self) -> bool:
        """Whether one that is needed has not been ready yet."""
        return any(auxiliary.awaited for auxiliary in self._each)

    def stop_with_workers(self) -> None:
        """Tell those to stop, once, that do not outlive the workers."""
        for auxiliary in self._each:
            if not auxiliary.outlives_workers:
                auxiliary.stop()

    def stop(self) -> bool:
        """Tell them to stop, once; return whether all have ended."""
        for auxiliary in self._each:
            auxiliary.stop()
        return all(auxiliary.ended for auxiliary in self._each)

    def kill(self) -> None:
        """Kill them."""
        for auxiliary in self._each:
            auxiliary.kill()


def max_stop_seconds(settings: Settings) -> float:
    """Return how long those that outlive the workers may take to stop."""
    return max(follower.max_stop_seconds(settings), listener.MAX_STOP_SECONDS)
