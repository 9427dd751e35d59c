// A refusal as an HTTP response: the challenge of RFC 6750, and the problem of RFC 9457.

import { STATUS_CODES } from "node:http";

import type { StatusCode } from "./errors.js";
import type { Refusal } from "./refusal.js";
import type { RateLimit } from "./verdict.js";

const STATUSES: Partial<Record<StatusCode, number>> = {
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
};
const INVALID = ["The credential is not valid", "invalid_token"] as const;
// The title, and the error of RFC 6750: none for a request without a credential that we can read.
const TOLD: Record<string, readonly [string, string]> = {
  CREDENTIAL_MISSING: ["A credential is required", ""],
  CREDENTIAL_SCHEME: ["The scheme is not supported", ""],
  CREDENTIAL_AMBIGUOUS: ["The credential is ambiguous", "invalid_request"],
  CREDENTIAL_RATE_LIMITED: ["A rate limit is reached", ""],
  CREDENTIAL_CREDITS_EXHAUSTED: ["There are too few credits", ""],
  SCOPE_MISSING: ["A scope is missing", "insufficient_scope"],
  VERIFIER_UNAVAILABLE: ["Temporarily unavailable", ""],
};

/** The parts of the response. */
export interface Problem {
  readonly status: number;
  readonly statusText: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Returns the response for a refusal. */
export function problemOf(refusal: Refusal): Problem {
  const status = STATUSES[refusal.code] ?? 503;
  const [title, error] = TOLD[refusal.reason] ?? INVALID;
  const missing = refusal.metadata["required_scope"] ?? "";
  const body = JSON.stringify({
    type: `urn:authsvc:problem:${refusal.reason.toLowerCase().replaceAll("_", "-")}`,
    title,
    status,
    detail: refusal.message,
    reason: refusal.reason,
    ...(missing !== "" && { missing_scopes: missing.split(" ") }),
  });
  const headers: Record<string, string> = {
    "content-type": "application/problem+json",
    "content-length": String(Buffer.byteLength(body)),
    "cache-control": "no-store",
    ...limitHeaders(refusal.limits),
  };
  if (status === 401 || error !== "") {
    headers["www-authenticate"] = challenge(error, refusal.message, missing);
  }
  if (refusal.retryAfterMs !== undefined) {
    headers["retry-after"] = String(Math.max(1, Math.ceil(refusal.retryAfterMs / 1000)));
  }
  return { status, statusText: STATUS_CODES[status] ?? "", headers, body };
}

function challenge(error: string, message: string, missing: string): string {
  const told = error === "" ? "" : `, error="${error}", error_description="${quotable(message)}"`;
  return `Bearer realm="authsvc"${told}${missing === "" ? "" : `, scope="${quotable(missing)}"`}`;
}

// What a quoted string in a challenge may not hold (RFC 6750, section 3).
function quotable(text: string): string {
  return text.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, "");
}

// By draft-ietf-httpapi-ratelimit-headers-10.
function limitHeaders(limits: readonly RateLimit[]): Record<string, string> {
  if (limits.length === 0) {
    return {};
  }
  const named = limits.map(
    (each) => [each.ofOwner ? `"owner.${each.name}"` : `"${each.name}"`, each] as const,
  );
  return {
    "ratelimit-policy": named
      .map(([name, each]) => `${name};q=${each.limit};w=${each.periodSeconds}`)
      .join(", "),
    ratelimit: named.map(([name, each]) => `${name};r=${each.remaining};t=${each.resetSeconds}`).join(", "),
  };
}
