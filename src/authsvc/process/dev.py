"""`authsvc dev`: a database of its own, started before the workers and stopped after them.

Mechanism: the database is a child like a worker, and the workers' supervisor runs between its start and its
end. The database reports an administrator key that it made as `minted`, and its URL as `ready`.

Bound: a database that has not ended 45 s after it was told to stop is killed.

Failure: a database that cannot start, or ends by itself, stops the workers and then the process, with its
message as StartError. When this process is gone, the database ends.
"""

import logging
import signal
from collections.abc import Callable

from pydantic import SecretStr

from authsvc.config.settings import Settings
from authsvc.config.transport import web_url
from authsvc.config.web_settings import DEV_LISTEN
from authsvc.process.child import Context
from authsvc.process.children import Children
from authsvc.process.ports import held_ports
from authsvc.process.supervisor import StartError, Supervisor

_log = logging.getLogger(__name__)

# PostgreSQL is told to stop by ever stronger signals, for 40 s.
_MAX_STOP_SECONDS = 45.0


def serve(settings: Settings, context: Context, announce: Callable[[Settings, int, str], None]) -> int:
    """Run a database and the workers until SIGTERM or SIGINT, and return the exit code.

    The database is a child that runs the `context`. `announce` is called once, when all workers serve, with
    the settings, in which the ports are that are held, the port of gRPC, and what the database minted. Raises
    AddressInUseError or ConfigError when a port cannot be held, and StartError when the database or a worker
    cannot start, or the database ends by itself.
    """
    with Children() as children, held_ports(settings, children, default_web=DEV_LISTEN) as settings:
        if not settings.console_url and settings.console == "on":
            settings = settings.model_copy(update={"console_url": web_url(settings)})
        if not settings.token_issuer:
            settings = settings.model_copy(update={"token_issuer": web_url(settings)})
        try:
            database = _Database(children, context)
        except OSError as error:
            raise StartError(f"the database cannot be started: {error}") from error
        database.start()
        if database.url:
            supervisor = Supervisor(
                settings.model_copy(update={"database_url": SecretStr(database.url)}),
                children,
                announce=lambda port: announce(settings, port, database.take_minted()),
                check=database.read_reports,
            )
            fault = supervisor.run()
            database.stop()
        else:
            fault = database.fault
        if fault:
            raise StartError(fault)
        return children.signals.exit_code


class _Database:
    """The process of the database, as its parent sees it."""

    def __init__(self, children: Children, context: Context) -> None:
        self._children = children
        self._child = children.fork(context, "the database", max_stop_seconds=_MAX_STOP_SECONDS)
        self._ended = False
        self._minted = ""
        self.url = ""  # empty until it is ready
        self.fault = ""  # why it has ended by itself

    def start(self) -> None:
        """Wait until it is ready, or has ended, by itself or after a signal."""
        self._wait_until(lambda: bool(self.url) or self._ended)

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        if not self._ended:
            self._child.stop()
        self._wait_until(lambda: self._ended)

    def take_minted(self) -> str:
        """Return what it minted, once: workers that are forked later do not inherit it."""
        minted, self._minted = self._minted, ""
        return minted

    def read_reports(self) -> str:
        """Read its reports; return why it has ended by itself, or an empty string."""
        if not self._ended:
            end = self._child.end()
            for word, text in self._child.reports():
                if word == "minted":
                    self._minted = text
                elif word == "ready" and not self._child.stopping:
                    self.url = text
            if end:
                self._note_ended(end)
        return self.fault

    def _wait_until(self, done: Callable[[], bool]) -> None:
        while True:
            self.read_reports()
            if done():
                return
            self._children.signals.handle_stops(stop=self._child.stop, hurry=self._kill)
            self._children.kill_late()
            self._children.wait()

    def _note_ended(self, end: str) -> None:
        self._ended = True
        self._children.remove(self._child)
        if not self._child.stopping:
            self.fault = self._child.failure or f"the process of the database has ended: {end}"
        elif end != "exit code 0":
            _log.warning("the database did not stop cleanly: %s", end)

    def _kill(self) -> bool:
        self._child.send(signal.SIGKILL)
        return True
