"""All commands, as one application of cyclopts."""

import inspect
import os
import sys

import cyclopts
from rich.console import Console
from rich.text import Text

# gRPC's core writes to standard error itself, one line for each header that it cannot parse. These lines
# would bypass the redaction and the rate limit of the log. gRPC reads this variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from authsvc import __version__
from authsvc.cli import network_preview, service
from authsvc.cli.audit import audit
from authsvc.cli.bootstrap import bootstrap
from authsvc.cli.credits import refund
from authsvc.cli.deploy import deploy
from authsvc.cli.key_holders import report_leaked, revoke_self, rotate_self
from authsvc.cli.key_import import import_
from authsvc.cli.key_pauses import disable, enable
from authsvc.cli.key_usage import preview_revocation, rotation_status, usage
from authsvc.cli.keys import keys
from authsvc.cli.migrate import check_options, migrate
from authsvc.cli.notifications import notifications
from authsvc.cli.openapi import openapi
from authsvc.cli.parameters import shown_default
from authsvc.cli.policies import policies
from authsvc.cli.probe import listed_probe
from authsvc.cli.scopes import scopes
from authsvc.cli.sessions import sessions
from authsvc.cli.status import status
from authsvc.cli.tag_key import tag_key
from authsvc.cli.versions import check_versions
from authsvc.cli.webhooks import webhooks
from authsvc.model.errors import OperatorError
from authsvc.model.key_string import redact
from authsvc.model.text import Form, cleaned
from authsvc.process import loop

app = cyclopts.App(
    name="authsvc",
    help="Issues, rotates, revokes and verifies API keys, and keeps track of sessions.",
    help_format="plaintext",
    default_parameter=cyclopts.Parameter(show_default=shown_default),
    version=__version__,
    help_epilogue="Settings are environment variables: see `authsvc settings`.",
)
app.command(service.serve)
app.command(service.dev)
app.command(migrate, validator=check_options)
app.command(bootstrap)
app.command(service.settings)
app.command(deploy)
for command in (disable, enable, refund, revoke_self, rotate_self, report_leaked):
    keys.command(command)
keys.command(import_, name="import")
for shown in (usage, preview_revocation, rotation_status):
    keys.command(shown)
keys.command(network_preview.of_key, name="preview-networks")
policies.command(network_preview.of_owner, name="preview-networks")
app.command(keys)
app.command(sessions)
app.command(policies)
app.command(audit)
app.command(notifications)
app.command(scopes)
app.command(openapi)
app.command(listed_probe, name="probe")
app.command(status)
app.command(tag_key)
app.command(webhooks)


def main() -> None:
    """Run the command that the arguments name. If it fails, print a message and exit with status 1."""
    try:
        check_versions()
        command, given, _ = app.parse_args()
        # Commands that fork (`serve` and `dev`) must not run in an event loop.
        if inspect.iscoroutinefunction(command):
            loop.run(command(*given.args, **given.kwargs))
        else:
            sys.exit(command(*given.args, **given.kwargs))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader, for instance `head`, has closed the pipe. Python would write the rest when it exits.
        sys.stdout = None
        sys.exit(1)
    except OperatorError as error:
        Console(stderr=True).print(
            Text.assemble(("authsvc: ", "bold red"), cleaned(redact(str(error)), Form.PARAGRAPHS)),
            soft_wrap=True,
        )
        sys.exit(1)
