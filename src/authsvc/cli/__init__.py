"""The command line: `serve`, `dev`, `migrate`, `status` … for operators, one command a service for people."""

import inspect
import os
import sys
from importlib.metadata import version

import cyclopts
from rich.console import Console
from rich.text import Text

# gRPC's core writes to standard error by itself, a line for each header of a stranger that it cannot read,
# past the redaction and the limit of the log. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from authsvc.cli import service
from authsvc.cli.audit import audit
from authsvc.cli.bootstrap import bootstrap
from authsvc.cli.keys import keys
from authsvc.cli.policies import policies
from authsvc.cli.scopes import scopes
from authsvc.cli.sessions import sessions
from authsvc.cli.status import status
from authsvc.cli.tag_key import tag_key
from authsvc.model.errors import OperatorError
from authsvc.model.key_string import redact
from authsvc.model.text import Form, cleaned
from authsvc.process import loop

app = cyclopts.App(
    name="authsvc",
    help="Issues, rotates, revokes and verifies API keys, and keeps track of sessions.",
    help_format="plaintext",
    version=version("authsvc"),
    help_epilogue="Settings come from the environment: see `authsvc settings`.",
)
app.command(service.serve)
app.command(service.dev)
app.command(service.migrate)
app.command(bootstrap)
app.command(service.settings)
app.command(keys)
app.command(sessions)
app.command(policies)
app.command(audit)
app.command(scopes)
app.command(status)
app.command(tag_key)


def main() -> None:
    """Run the command that the arguments name; exit with 1 and a message when it cannot be done."""
    try:
        command, given, _ = app.parse_args()
        # Who forks, as `serve` and `dev` do, must have no event loop.
        if inspect.iscoroutinefunction(command):
            loop.run(command(*given.args, **given.kwargs))
        else:
            sys.exit(command(*given.args, **given.kwargs))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads, `head` for instance, has seen enough; Python would write the rest at its end.
        sys.stdout = None
        sys.exit(1)
    except OperatorError as error:
        Console(stderr=True).print(
            Text.assemble(("authsvc: ", "bold red"), cleaned(redact(str(error)), Form.PARAGRAPHS)),
            soft_wrap=True,
        )
        sys.exit(1)
