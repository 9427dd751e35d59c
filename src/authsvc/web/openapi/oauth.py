"""The OAuth endpoints: `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009)."""

from authsvc.web.openapi.rules import Schema

_SECURITY: list[Schema] = [{"bearer": []}, {"basic": []}]


def paths() -> dict[str, Schema]:
    """Return both endpoints by their paths."""
    return {
        "/introspect": {
            "post": {
                "tags": ["OAuth"],
                "operationId": "introspect",
                "summary": "Says what a token is worth (RFC 7662).",
                "description": (
                    "Verifies a key string or a session token, and counts as its use. Requires the scope "
                    "`keys:verify` for a key, `sessions:verify` for a session."
                ),
                "x-required-scope": ["keys:verify", "sessions:verify"],
                "security": _SECURITY,
                "requestBody": _form(),
                "responses": {
                    "200": {
                        "description": "What is known of the token. An error is never inactive.",
                        "content": _json("Introspection"),
                    },
                    **_errors(),
                },
            }
        },
        "/revoke": {
            "post": {
                "tags": ["OAuth"],
                "operationId": "revoke",
                "summary": "Revokes a token (RFC 7009).",
                "description": (
                    "Revokes a key string or ends a session. Requires the scopes `keys:read` and "
                    "`keys:write` for a key, `sessions:verify` and `sessions:write` for a session. May take "
                    "a lease (30 s by default) if a worker is unreachable."
                ),
                "x-required-scope": ["keys:read", "keys:write", "sessions:verify", "sessions:write"],
                "security": _SECURITY,
                "requestBody": _form(),
                "responses": {
                    "200": {
                        "description": (
                            "No worker of any replica accepts the token any more; or there is no such token "
                            "among those that the caller may see."
                        )
                    },
                    **_errors(),
                },
            }
        },
    }


def schemas() -> dict[str, Schema]:
    """Return the schemas of answers."""
    return {"Introspection": _introspection(), "OAuthError": _error()}


def _form() -> Schema:
    return {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "token": {"type": "string", "minLength": 1, "format": "password"},
                        "token_type_hint": {"type": "string", "description": "Not needed, and ignored."},
                    },
                    "required": ["token"],
                }
            }
        },
    }


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _errors() -> dict[str, Schema]:
    return {status: {"description": "An error.", "content": _json("OAuthError")} for status in ("4XX", "5XX")}


def _introspection() -> Schema:
    texts = {
        "token_type": "`Bearer`.",
        "scope": "The scopes, separated by spaces. `full_access` grants all.",
        "sub": "The user or organization that the token belongs to: the `owner_id`.",
        "username": "The same as `sub`.",
        "client_id": "The id of the key. Not there for a session.",
        "jti": "The id of the key or of the session.",
    }
    return {
        "type": "object",
        "description": "What a token is worth. Of one that is not valid, only `active` is there.",
        "properties": {
            "active": {"type": "boolean", "description": "Whether to accept the token."},
            **{name: {"type": "string", "description": text} for name, text in texts.items()},
            "iat": {"type": "integer", "description": "When it was created, in seconds since 1970."},
            "exp": {
                "type": "integer",
                "description": "When it expires. That of a session moves with its use. Absent if never.",
            },
            "credential_type": {
                "type": "string",
                "enum": ["key", "session"],
                "description": "What the token is.",
            },
            "annotations": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "The annotations of the key.",
            },
        },
        "required": ["active"],
    }


def _error() -> Schema:
    return {
        "type": "object",
        "description": "An error (RFC 6749, 5.2).",
        "properties": {
            "error": {
                "type": "string",
                "description": "The code, by RFC 6749, RFC 6750 and RFC 7009.",
                "enum": [
                    "invalid_request",
                    "invalid_client",
                    "insufficient_scope",
                    "access_denied",
                    "temporarily_unavailable",
                    "server_error",
                ],
            },
            "error_description": {"type": "string", "description": "What is wrong, for people."},
            "reason": {"type": "string", "description": "Why, as in the errors of RPCs."},
        },
        "required": ["error", "error_description"],
    }
