"""authsvc with a service account that is not mounted at its usual place: IN_POD names the place."""

import os
from pathlib import Path

from authsvc import cli
from authsvc.cli import kubernetes_secret

kubernetes_secret.SERVICE_ACCOUNT = Path(os.environ["IN_POD"])
if os.environ.get("IN_POD_AT_ONCE"):
    setattr(kubernetes_secret, "_PAUSES", (0.0, 0.0, 0.0))  # noqa: B010 - a type for the type checker
cli.main()
