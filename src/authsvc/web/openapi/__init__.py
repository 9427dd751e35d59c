"""The OpenAPI document of the port of HTTP, made from the protos.

`document` has every RPC that is no stream, with the comments and the rules of the protos, and the OAuth
endpoints. `served` returns it as bytes, made once; that takes some tenths of a second, so call it when a
worker starts, and not in a request.
"""

import json
from functools import cache
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from authsvc import __version__
from authsvc.web.openapi import errors, oauth
from authsvc.web.openapi.described import comment, required_scope, services
from authsvc.web.openapi.rules import Schema
from authsvc.web.openapi.schemas import reference, schemas

__all__ = ["document", "served"]

_ABOUT = """\
Issues, rotates, revokes and verifies API keys, and keeps track of sessions.

The RPCs are those of gRPC, by the Connect protocol: `POST /authsvc.v1.KeyService/GetKey` with a message in \
JSON. Descriptions name fields as the protos do, such as `owner_id`. Requests may use these names or those \
in the schemas (`ownerId`), which answers have; values, such as those of `order_by`, are as described. \
Fields with their default value (`""`, 0, false, an empty list) are left out of answers. Unknown fields are \
refused."""
_OAUTH = "Introspection and revocation for gateways and libraries that speak OAuth."


@cache
def served() -> bytes:
    """Return the document as it is served at `/openapi.json`."""
    return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()


def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    known = services()
    messages = (
        each for _, unary in known for method in unary for each in (method.input_type, method.output_type)
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "authsvc",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [
            *({"name": service.name, "description": comment(service.full_name)} for service, _ in known),
            {"name": "OAuth", "description": _OAUTH},
        ],
        "paths": {
            **{
                f"/{service.full_name}/{method.name}": {"post": _operation(service, method)}
                for service, unary in known
                for method in unary
            },
            **oauth.paths(),
        },
        "components": {
            "schemas": {
                **schemas(messages),
                "Error": errors.connect_error(),
                "ErrorDetail": errors.detail(),
                **oauth.schemas(),
            },
            "responses": errors.responses(),
            "parameters": {"Timeout": _timeout()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key string or a session token.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "A key string or a session token as the password, with any user name.",
                },
            },
        },
    }


def _operation(service: ServiceDescriptor, method: MethodDescriptor) -> Schema:
    told, scope = comment(method.full_name), required_scope(method)
    return {
        **({} if scope else {"security": [{"bearer": []}, {}]}),
        "tags": [service.name],
        "operationId": f"{service.name}_{method.name}",
        "summary": told.partition(". ")[0].rstrip("."),
        "description": f"{told}\n\n" + (f"Requires the scope `{scope}`." if scope else "Open to all."),
        "x-required-scope": [scope] if scope else [],
        "parameters": [{"$ref": "#/components/parameters/Timeout"}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(method.input_type)}},
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": reference(method.output_type)}},
            },
            "4XX": {"$ref": "#/components/responses/Error"},
            "5XX": {"$ref": "#/components/responses/Error"},
        },
    }


def _timeout() -> Schema:
    return {
        "name": "Connect-Timeout-Ms",
        "in": "header",
        "description": "Until when the caller waits, in milliseconds.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 9_999_999_999},
    }
