"""A directory that stands for `/`, in which the commands of the page run, and a systemd of its own."""

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.restore.page import blocks

# What the page names below `/`, and the ports that it names.
_PLACES = ("/opt/authsvc", "/etc/authsvc", "/etc/systemd", "/etc/prometheus")
_READY_SECONDS = 90


@dataclass
class Machine:
    """`given` is the environment of the operator; `also` is that of the service, besides its files."""

    checkout: Path
    root: Path
    ports: dict[str, int]
    given: dict[str, str] = field(default_factory=dict)
    also: dict[str, str] = field(default_factory=dict)
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return a text of the page or the unit with the places and ports of this machine."""
        for place in _PLACES:
            text = text.replace(place, f"{self.root}{place}")
        for old, new in self.ports.items():
            text = re.sub(rf"(?<=:){old}\b", str(new), text)
        return text

    def block(self, name: str) -> str:
        """Return a block of the page, for this machine."""
        return self.here(blocks(self.checkout / "docs/afternoon.md")[name])

    async def run(self, name: str, **more: str) -> str:
        """Run a block of the page; return its output."""
        return await self.execute("bash", "-eu", "-o", "pipefail", "-c", self.block(name), **more)

    async def execute(self, *command: str, **more: str) -> str:
        """Run a program in the checkout; return its output."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("AUTHSVC_", "PG"))}
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.checkout,
            env=ours | self.given | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output, _ = await process.communicate()
        assert await process.wait() == 0, f"{command[-1]}\n{output.decode()}"
        return output.decode()

    async def systemctl(self, name: str) -> None:
        """Do what the `systemctl` commands of a block ask of units: start, or restart, and wait."""
        for line in self.block(name).splitlines():
            words = shlex.split(line)
            assert words[0] == "systemctl", line
            for unit in (word for word in words if word.startswith("authsvc@")):
                if words[1] == "restart":
                    await self.stop(unit)
                await self.start(unit)

    async def start(self, unit: str) -> None:
        """Start what ExecStart says with the files of EnvironmentFile; wait until READY=1."""
        template, _, instance = unit.partition("@")
        lines = self._settings(template, instance)
        environment = {"PATH": os.defpath, **self.also}
        for file in lines["EnvironmentFile"]:
            environment |= _read(Path(self.here(file)))
        (command,) = lines["ExecStart"]
        notify = self.root / f"{unit}.notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(notify))
            receiver.settimeout(_READY_SECONDS)
            process = self._spawn(unit, command, environment | {"NOTIFY_SOCKET": str(notify)})
            self.services[unit] = process

            def ready() -> None:
                while b"READY=1" not in receiver.recv(4096):
                    assert process.poll() is None, self.log(unit).read_text()

            try:
                await asyncio.to_thread(ready)
            except TimeoutError:
                raise AssertionError(self.log(unit).read_text()) from None

    def _spawn(self, unit: str, command: str, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self.log(unit).open("ab") as log:
            return subprocess.Popen(
                shlex.split(self.here(command)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
            )

    async def stop(self, unit: str) -> None:
        """Stop as KillMode=mixed does: SIGTERM to the supervisor."""
        process = self.services.pop(unit)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0

    def end(self) -> None:
        """End what still runs."""
        for process in self.services.values():
            process.terminate()
        for process in self.services.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, unit: str) -> Path:
        return self.root / f"{unit}.log"

    def _settings(self, template: str, instance: str) -> dict[str, list[str]]:
        """Return the settings of the unit and its drop-ins, as installed."""
        units = self.root / "etc/systemd/system"
        found: dict[str, list[str]] = {}
        for file in (units / f"{template}@.service", *sorted((units / f"{template}@.service.d").iterdir())):
            for name, value in re.findall(r"^(\w+)=(.*)$", file.read_text("utf-8"), re.MULTILINE):
                found.setdefault(name, []).append(value.replace("%i", instance))
        return found


def _read(file: Path) -> dict[str, str]:
    """Return the assignments of an environment file."""
    lines = (line.partition("=") for line in file.read_text("utf-8").splitlines() if "=" in line)
    return {name: value.strip('"') for name, _, value in lines}
