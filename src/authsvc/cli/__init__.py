"""The command line: `serve`, `dev` and `migrate` for operators, `keys` for people."""

import sys
from importlib.metadata import version

import cyclopts
import uvloop
from rich.console import Console
from rich.text import Text

from authsvc.cli import client, service
from authsvc.config import ConfigError
from authsvc.devpg import DevPostgresError
from authsvc.model.key_string import redact
from authsvc.rpc.server import AddressInUseError
from authsvc.store.migrate import MigrationError

app = cyclopts.App(
    name="authsvc",
    help="Issues, rotates, revokes and verifies API keys.",
    help_format="plaintext",
    version=version("authsvc"),
    help_epilogue="Settings come from the environment: see `authsvc settings`.",
)
app.command(service.serve)
app.command(service.dev)
app.command(service.migrate)
app.command(service.settings)
app.command(client.keys)

_FAULTS = (ConfigError, DevPostgresError, MigrationError, AddressInUseError, client.ClientError)


def main() -> None:
    """Run the command that the arguments name; exit with 1 and a message when it cannot be done."""
    try:
        uvloop.run(app.run_async())
    except KeyboardInterrupt:
        sys.exit(130)
    except _FAULTS as error:
        Console(stderr=True).print(
            Text.assemble(("authsvc: ", "bold red"), redact(str(error))), soft_wrap=True
        )
        sys.exit(1)
