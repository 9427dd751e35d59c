"""The errors of RPCs, in the form of the Connect protocol, and the reasons that they may have."""

from collections.abc import Mapping, Sequence

from authsvc.web.openapi.rules import Schema

#: The codes of the Connect protocol, with the status of HTTP and the reasons in `google.rpc.ErrorInfo`.
CODES: Mapping[str, tuple[int, Sequence[str]]] = {
    "canceled": (499, ()),
    "unknown": (500, ()),
    "invalid_argument": (400, ("INVALID_FIELD",)),
    "deadline_exceeded": (504, ("WORKERS_UNCONFIRMED",)),
    "not_found": (404, ("DELIVERY_NOT_FOUND", "KEY_NOT_FOUND", "SESSION_NOT_FOUND", "WEBHOOK_NOT_FOUND")),
    "already_exists": (
        409,
        ("KEY_ALREADY_IMPORTED", "LOOK_UP_IN_USE", "REFUND_REPEATED", "REQUEST_REPEATED"),
    ),
    "permission_denied": (
        403,
        (
            "DISABLED_BY_PLATFORM",
            "KEY_MANAGER_NOT_PERMITTED",
            "OWNER_NOT_PERMITTED",
            "PLATFORM_NEEDS_FULL_ACCESS",
            "PLATFORM_ONLY",
            "SCOPE_MISSING",
            "SCOPE_NOT_GRANTABLE",
        ),
    ),
    "resource_exhausted": (
        429,
        (
            "ANSWERS_UNREAD",
            "CREDIT_QUEUE_FULL",
            "DATABASE_BUSY",
            "DATABASE_QUEUE_FULL",
            "HASHER_QUEUE_FULL",
            "IN_FLIGHT_LIMIT",
            "LEAK_REPORTS_FULL",
            "LOOK_UP_LIMIT",
            "MESSAGE_TOO_LARGE",
            "RATE_LIMITED",
            "RATE_LIMIT_QUEUE_FULL",
            "WEBHOOK_TEST_IN_PROGRESS",
        ),
    ),
    "failed_precondition": (
        400,
        (
            "API_KEYS_NOT_ENABLED",
            "BRAND_NOT_ALLOWED",
            "CALLER_NOT_A_KEY",
            "CASCADE_TOO_LARGE",
            "CONTACTS_REQUIRED",
            "CREDENTIAL_REQUIRED",
            "DISABLED_BY_OWNER_FOR_LONGER",
            "EXPIRATION_REQUIRED",
            "KEY_ALREADY_REVOKED",
            "KEY_ALREADY_ROTATED",
            "KEY_DISABLED",
            "KEY_EDIT_NOT_ALLOWED",
            "KEY_EXPIRED",
            "KEY_HAS_NO_CREDITS",
            "KEY_HAS_NO_PREFIX",
            "KEY_LIFETIME_TOO_LONG",
            "KEY_NOT_REVOKED",
            "KEY_NOT_ROTATED",
            "LAST_ADMINISTRATOR_KEY",
            "MAX_ACTIVE_KEYS",
            "MAX_WEBHOOKS",
            "MAX_WEBHOOK_SECRETS",
            "PLATFORM_HAS_NO_POLICY",
            "REFUND_EXCEEDS_SPENT",
            "SCOPE_NOT_ALLOWED",
            "SESSION_ALREADY_REVOKED",
            "TOKENS_NOT_ENABLED",
            "WEBHOOKS_NOT_ENABLED",
            "WEBHOOK_DISABLED",
            "WEBHOOK_KEY_MISSING",
        ),
    ),
    "aborted": (409, ("DESCENDANTS_CHANGED", "ETAG_MISMATCH", "POLICY_CHANGED")),
    "out_of_range": (400, ()),
    "unimplemented": (501, ()),
    "internal": (500, ()),
    "unavailable": (
        503,
        (
            "COMMIT_UNCERTAIN",
            "DATABASE_BEHIND",
            "DATABASE_POOLED",
            "DATABASE_UNAVAILABLE",
            "FEED_BEHIND",
            "LEASE_OVER",
            "LOCK_TIMEOUT",
            "MESSAGE_LATE",
            "PROOF_UNREADABLE",
            "REQUEST_IN_PROGRESS",
            "SCHEMA_CHANGED",
            "STOPPING",
            "TRANSACTION_CONFLICT",
        ),
    ),
    "data_loss": (500, ()),
    "unauthenticated": (
        401,
        (
            "CERTIFICATE_UNKNOWN",
            "CREDENTIAL_ADDRESS_NOT_ALLOWED",
            "CREDENTIAL_AMBIGUOUS",
            "CREDENTIAL_DISABLED",
            "CREDENTIAL_EXPIRED",
            "CREDENTIAL_INVALID",
            "CREDENTIAL_MISSING",
            "CREDENTIAL_REVOKED",
            "CREDENTIAL_SCHEME",
        ),
    ),
}
_STATUSES = "A request whose head is refused has another status: 404, 405, 413 or 415."


def connect_error() -> Schema:
    """Return the schema of an error."""
    return {
        "type": "object",
        "description": "An error of an RPC.",
        "properties": {
            "code": {"type": "string", "enum": list(CODES), "description": "The code, as in gRPC."},
            "message": {"type": "string", "description": "What is wrong and what to do, for people."},
            "details": {
                "type": "array",
                "description": (
                    "Of an error of the service, `google.rpc.ErrorInfo`, which has the `reason`. For invalid "
                    "fields also `google.rpc.BadRequest`; for an error that passes `google.rpc.RetryInfo`."
                ),
                "items": {"$ref": "#/components/schemas/ErrorDetail"},
            },
        },
        "required": ["code"],
    }


def detail() -> Schema:
    """Return the schema of a detail of an error."""
    return {
        "type": "object",
        "description": "One detail of an error: a message of Protocol Buffers.",
        "properties": {
            "type": {
                "type": "string",
                "description": "The name of the message.",
                "examples": ["google.rpc.ErrorInfo"],
            },
            "value": {
                "type": "string",
                "contentEncoding": "base64",
                "description": "The message in bytes, as base64 without padding.",
            },
            "debug": {
                "type": "object",
                "description": "The message as JSON.",
                "properties": {
                    "reason": {
                        "type": "string",
                        "description": "Of an `ErrorInfo`: why, for programs. Later versions add some.",
                        "examples": sorted({reason for _, reasons in CODES.values() for reason in reasons}),
                    },
                    "domain": {"type": "string", "description": "Of an `ErrorInfo`: `authsvc`."},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                    "fieldViolations": {
                        "type": "array",
                        "description": "Of a `BadRequest`: the fields that are wrong, as in the protos.",
                        "items": {
                            "type": "object",
                            "properties": {
                                "field": {"type": "string"},
                                "description": {"type": "string"},
                                "reason": {"type": "string"},
                            },
                        },
                    },
                    "retryDelay": {
                        "type": "string",
                        "description": "Of a `RetryInfo`: how long to wait, for instance `1s`.",
                    },
                },
            },
        },
        "required": ["type", "value"],
    }


def responses() -> dict[str, Schema]:
    """Return the responses with an error, by their names."""
    rows = [
        f"| {status} | `{code}` | {', '.join(f'`{reason}`' for reason in reasons)} |"
        for code, (status, reasons) in CODES.items()
        if reasons
    ]
    table = "\n".join(["| status | code | reasons |", "| -- | -- | -- |", *sorted(rows)])
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "Error": {
            "description": f"An error. {_STATUSES}\n\n{table}",
            "headers": {
                "Retry-After": {
                    "description": "With an error that passes: the seconds to wait.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            },
            "content": content,
        }
    }
