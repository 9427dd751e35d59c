"""`authsvc openapi`: prints the OpenAPI document of the RPCs over HTTP."""

import json

from authsvc.web.openapi import document


def openapi() -> None:
    """Print the OpenAPI document of the RPCs over HTTP, as JSON.

    A service with AUTHSVC_WEB_LISTEN serves the same at `/openapi.json`.
    """
    print(json.dumps(document(), indent=2, ensure_ascii=False))
